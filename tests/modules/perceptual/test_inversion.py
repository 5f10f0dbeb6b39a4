from __future__ import annotations

import math

import pytest
import torch

from modules.encoders.base import ImageEncoder
from modules.perceptual.inversion import Inverting, Start, invert, moved, total_variation
from tests.modules.toys import ConvEncoder, LinearEncoder, images

ENCODER = ConvEncoder(size=8)
TARGETS = ENCODER(images(3)).detach()
STILL = {"shift": 0, "spread": 0.0, "looks": 1}


@pytest.mark.parametrize("step_size", [0.2, None])
@pytest.mark.parametrize("start", ["grey", "noise"])
def test_an_inversion_stays_in_ball_and_box_and_comes_nearer(start: Start, step_size: float | None) -> None:
    near, far = (
        invert(ENCODER, TARGETS, Inverting(radius=r, steps=20, step_size=step_size, **STILL), start=start)
        for r in (0.5, 3.0)
    )
    assert (near.distance <= 0.5 + 1e-5).all() and (far.distance <= 3.0 + 1e-5).all()
    assert far.x.min() >= 0 and far.x.max() <= 1
    begin = invert(ENCODER, TARGETS, Inverting(radius=0.0, steps=1), start=start)
    assert (begin.distance == 0).all()
    assert (near.cosine > begin.cosine).all() and (far.cosine > near.cosine).all()


@pytest.mark.parametrize("step_size", [0.5, None])
def test_a_linear_encoder_that_reaches_every_direction_is_inverted(step_size: float | None) -> None:
    encoder = LinearEncoder(dim=48)  # as many numbers as pixels
    target = encoder(images(2, size=4)).detach()
    found = invert(encoder, target, Inverting(radius=None, steps=300, step_size=step_size, **STILL))
    assert (found.cosine > 0.98).all()


class _Brightness(ImageEncoder):
    """(cos, sin) of an angle that grows with the mean pixel: the best image in a ball is uniform, in closed form."""

    embedding_dim, image_size = 2, 4

    def encode_image(self, x: torch.Tensor) -> torch.Tensor:
        angle = x.flatten(1).mean(dim=1)
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_in_a_ball_the_best_image_is_the_known_one_noise_or_not() -> None:
    target = torch.tensor([[0.0, 1.0]])  # at an angle out of reach: as bright as may be
    for looks in (STILL, {"shift": 0, "spread": 0.05, "looks": 3}):
        found = invert(_Brightness(), target, Inverting(radius=1.0, steps=30, step_size=0.2, **looks))
        bright = 0.5 + 1 / math.sqrt(48)
        assert torch.allclose(found.x, torch.full_like(found.x, bright), atol=1e-3)
        assert math.isclose(found.cosine.item(), math.sin(bright), abs_tol=1e-4)


def test_steps_shrink_to_nothing_so_that_their_sum_bounds_the_way() -> None:
    found = invert(_Brightness(), torch.tensor([[0.0, 1.0]]), Inverting(radius=None, steps=4, step_size=0.1, **STILL))
    assert found.distance.item() == pytest.approx(0.1 * (1 + 0.75 + 0.5 + 0.25), abs=1e-5)


def test_the_result_is_the_same_again_and_weights_and_mode_are_left_alone() -> None:
    ENCODER.train()
    how = Inverting(steps=5)
    first, second = (invert(ENCODER, TARGETS, how, start="noise", seed=7) for _ in range(2))
    other = invert(ENCODER, TARGETS, how, start="noise", seed=8)
    assert torch.equal(first.x, second.x) and not torch.equal(first.x, other.x)
    assert ENCODER.training and all(p.requires_grad for p in ENCODER.parameters())


def test_looks_belong_to_a_place_in_the_batch_not_to_its_size() -> None:
    whole, part = (invert(ENCODER, t, Inverting(steps=5)) for t in (TARGETS, TARGETS[:2]))
    assert torch.allclose(whole.x[:2], part.x, atol=1e-5)


@pytest.mark.parametrize("step_size", [0.2, None])
def test_pictures_on_the_way_begin_with_the_start_and_end_with_the_result(step_size: float | None) -> None:
    ticks: list[int] = []
    how = Inverting(steps=20, step_size=step_size, **STILL)
    found = invert(ENCODER, TARGETS, how, snapshots=4, on_step=lambda: ticks.append(1))
    assert [step for step, _ in found.snapshots] == [0, 2, 4, 9, 20]
    assert (found.snapshots[0][1] == 0.5).all()
    assert torch.equal(found.snapshots[-1][1], found.x)
    assert len(ticks) in (20, 21)  # Auto-PGD also looks at its start
    shorter = invert(ENCODER, TARGETS, how, snapshots=0)
    assert shorter.snapshots == [] and torch.equal(shorter.x, found.x)


def test_an_image_is_moved_down_and_right_and_repeats_its_border() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert moved(x, torch.tensor([[1, 0]]))[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert moved(x, torch.tensor([[0, -1]]))[0, 0].tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]
    both = moved(x.expand(2, 3, 3, 3), torch.tensor([[0, 0], [5, 5]]))
    assert torch.equal(both[0], x[0].expand(3, 3, 3)) and (both[1] == 0).all()


def test_taking_off_the_variation_leaves_less_of_it() -> None:
    plain, smooth = (invert(ENCODER, TARGETS, Inverting(steps=40, variation=v, **STILL)) for v in (0.0, 0.01))
    assert (total_variation(smooth.x) < total_variation(plain.x)).all()
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert total_variation(ramp).item() == 12.0


def test_an_image_can_be_the_start() -> None:
    x = images(1)
    found = invert(ENCODER, TARGETS, Inverting(radius=0.3, steps=3), start=x)
    assert (found.x - x).flatten(1).norm(dim=1).max() <= 0.3 + 1e-5


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"this encoder's embeddings are \[B, 16\]"):
        invert(ENCODER, torch.zeros(2, 8))
    with pytest.raises(ValueError, match="unknown start 'red'"):
        invert(ENCODER, TARGETS, start="red")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="the start is"):
        invert(ENCODER, TARGETS, start=images(2))
    for wrong in ({"steps": 0}, {"radius": -1.0}, {"spread": float("nan")}, {"looks": 0}):
        with pytest.raises(ValueError, match="inversion takes|must be a number"):
            Inverting(**wrong)  # pyright: ignore[reportArgumentType]


def test_lengths_grow_with_the_side_unless_they_are_said() -> None:
    assert Inverting.at(32) == Inverting()
    large = Inverting.at(224, steps=7, radius=None)
    assert (large.step_size, large.shift, large.radius, large.steps) == (7.0, 21, None, 7)
    assert Inverting.at(64, step_size=0.5).radius == 20.0
