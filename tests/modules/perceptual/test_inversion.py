from __future__ import annotations

import pytest
import torch

from modules.perceptual.inversion import Start, invert, total_variation
from tests.modules.toys import ConvEncoder, LinearEncoder, images

ENCODER = ConvEncoder(size=8)
TARGETS = ENCODER(images(3)).detach()


@pytest.mark.parametrize("start", ["grey", "noise"])
def test_an_inversion_stays_in_ball_and_box_and_comes_nearer(start: Start) -> None:
    near, far = (invert(ENCODER, TARGETS, radius=r, steps=20, start=start) for r in (0.5, 3.0))
    assert (near.distance <= 0.5 + 1e-5).all() and (far.distance <= 3.0 + 1e-5).all()
    assert far.x.min() >= 0 and far.x.max() <= 1
    begin = invert(ENCODER, TARGETS, radius=0.0, steps=1, start=start)
    assert (begin.distance == 0).all()
    assert (near.cosine > begin.cosine).all() and (far.cosine > near.cosine).all()


def test_a_linear_encoder_is_inverted_within_the_ball_as_far_as_its_slope_allows() -> None:
    encoder = LinearEncoder(dim=48)  # as many numbers as pixels: every direction can be reached
    target = encoder(images(2, size=4)).detach()
    found = invert(encoder, target, radius=None, steps=200)
    assert (found.cosine > 0.99).all()


def test_the_result_is_the_same_again_and_weights_and_mode_are_left_alone() -> None:
    ENCODER.train()
    first, second = (invert(ENCODER, TARGETS, steps=5, start="noise", seed=7) for _ in range(2))
    other = invert(ENCODER, TARGETS, steps=5, start="noise", seed=8)
    assert torch.equal(first.x, second.x) and not torch.equal(first.x, other.x)
    assert ENCODER.training and all(p.requires_grad for p in ENCODER.parameters())


def test_pictures_on_the_way_begin_with_the_start_and_end_with_the_result() -> None:
    found = invert(ENCODER, TARGETS, steps=20, snapshots=4)
    assert [step for step, _ in found.snapshots][0] == 0 and found.snapshots[-1][0] == 21
    assert (found.snapshots[0][1] == 0.5).all()
    assert torch.equal(found.snapshots[-1][1], found.x)


def test_taking_off_the_variation_leaves_less_of_it() -> None:
    plain, smooth = (invert(ENCODER, TARGETS, steps=40, variation=v) for v in (0.0, 0.01))
    assert (total_variation(smooth.x) < total_variation(plain.x)).all()
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert total_variation(ramp).item() == 12.0


def test_targets_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"this encoder's embeddings are \[B, 16\]"):
        invert(ENCODER, torch.zeros(2, 8))
