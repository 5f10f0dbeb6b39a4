"""TTC: the published test vectors, the gate, and who pays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.defenses import TTC, RandomNoise, smooth
from modules.encoders.base import ImageEncoder
from tests.modules.toys import ConvEncoder, LinearEncoder, images


class Counting(ConvEncoder):
    """Counts the images it looks at."""

    seen = 0

    def encode_image(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return super().encode_image(x)


class Constant(ImageEncoder):
    """Every image has the same embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim, self.image_size = 3, 4

    def encode_image(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), 3) + 0 * x.flatten(1).sum(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("steps", "weights"),
    [
        (2, [0.01588, 0.11731, 0.86681]),
        (3, [0.00214, 0.01584, 0.11706, 0.86495]),
        (4, [0.00029, 0.00214, 0.01584, 0.11702, 0.86470]),
        (5, [0.00004, 0.00029, 0.00214, 0.01584, 0.11702, 0.86467]),
    ],
)
def test_later_iterates_weigh_as_published(steps: int, weights: list[float]) -> None:
    found = TTC(ConvEncoder(), steps=steps).weights(torch.zeros(1))
    assert found.tolist() == pytest.approx(weights, abs=6e-6)


def test_the_counterattack_on_a_linear_encoder_is_done_by_hand() -> None:
    encoder, x = LinearEncoder().freeze(), images(5, 4) * 0.5 + 0.25
    eps, alpha = 0.03, 0.01
    ttc = TTC(encoder, eps=eps, step_size=alpha, steps=2, tau=10.0)  # every gate opens
    delta0 = ttc.threat.sample(x, "ttc")
    w = encoder.weight

    def step(delta: Tensor) -> Tensor:
        ascent = (delta.flatten(1) @ w.T @ w).sign().view_as(x)
        return (delta + alpha * ascent).clamp(-eps, eps)

    deltas = [delta0, step(delta0), step(step(delta0))]
    by_hand = x + sum((weight * d for weight, d in zip(ttc.weights(x), deltas, strict=True)), torch.zeros_like(x))
    assert torch.allclose(ttc.purify_pixels(x), by_hand, atol=1e-6)


def test_rejected_images_keep_the_probes_noise() -> None:
    x = images(6)
    closed = TTC(ConvEncoder().freeze(), eps=0.03, tau=0.0)
    assert torch.allclose(closed.purify_pixels(x), (x + closed.threat.sample(x, "ttc")).clamp(0, 1))


def test_a_drift_equal_to_the_threshold_is_not_gated() -> None:
    ttc = TTC(ConvEncoder(), tau=0.5)
    assert ttc.gated(torch.tensor([0.4, 0.5, 0.6])).tolist() == [True, False, False]
    ttc.direction = "above"
    assert ttc.gated(torch.tensor([0.4, 0.5, 0.6])).tolist() == [False, False, True]


def test_a_constant_encoder_drifts_by_nothing_and_is_not_pushed_anywhere() -> None:
    x, ttc = images(4, 4), TTC(Constant(), eps=0.03)
    _, noisy, drift = ttc.probe(x)
    assert (drift == 0).all()
    assert torch.allclose(ttc.purify_pixels(x), noisy, atol=1e-6)


def test_only_gated_images_pay_for_the_steps() -> None:
    encoder, x = Counting().freeze(), images(8)
    drift = TTC(encoder, eps=0.03).probe(x)[2]
    ttc = TTC(encoder, eps=0.03, steps=3, tau=float(drift.sort().values[2]))  # two of eight lie below
    encoder.seen = 0
    ttc.purify_pixels(x)
    assert encoder.seen == 8 + 8 + 2 * 3


def test_the_gate_of_a_sample_does_not_depend_on_its_neighbours() -> None:
    encoder, x = ConvEncoder().freeze(), images(8)
    drift = TTC(encoder, eps=0.03).probe(x)[2]
    ttc = TTC(encoder, eps=0.03, tau=float(drift.median()))
    with noise.samples(torch.arange(8)):
        whole = ttc.purify_pixels(x)
        with noise.subset(torch.tensor([3])):
            assert torch.allclose(ttc.purify_pixels(x[3:4]), whole[3:4], atol=1e-6)


def test_with_no_steps_it_is_random_noise_and_with_no_radius_nothing() -> None:
    x, encoder = images(4), ConvEncoder().freeze()
    ttc = TTC(encoder, eps=0.03, steps=0, tau=10.0)
    moved = (ttc.purify_pixels(x) - x).abs()
    assert 0.02 < moved.max() <= 0.03 + 1e-6
    assert RandomNoise(encoder, eps=0.03).threat == ttc.threat
    assert torch.equal(TTC(encoder, eps=0.0).purify_pixels(x), x)


@pytest.mark.parametrize("attacked_drifts_more", [True, False])
def test_calibration_finds_threshold_and_side(attacked_drifts_more: bool) -> None:
    ttc = TTC(ConvEncoder(), eps=0.03)
    low, high = torch.linspace(0.1, 0.4, 30), torch.linspace(0.5, 0.9, 30)
    gate = ttc.calibrate_gate(*((low, high) if attacked_drifts_more else (high, low)))
    assert gate.direction == ("above" if attacked_drifts_more else "below")
    assert 0.4 < gate.tau < 0.5 and gate.auc == 1.0
    assert (ttc.tau, ttc.direction) == (gate.tau, gate.direction)


def test_calibration_says_that_it_found_nothing_where_there_is_nothing() -> None:
    ttc, same = TTC(ConvEncoder(), eps=0.03), torch.linspace(0.1, 0.9, 40)
    assert ttc.calibrate_gate(same, same).auc == pytest.approx(0.5)


def half_gated() -> tuple[TTC, Tensor]:
    """A TTC whose gate opens for half of some images."""
    encoder, x = ConvEncoder().freeze(), images(6)
    drift = TTC(encoder, eps=0.03).probe(x)[2].sort().values
    return TTC(encoder, eps=0.03, step_size=0.01, tau=float(drift[2:4].mean())), x


def test_the_smooth_stand_in_comes_near_the_defence_as_it_sharpens(monkeypatch: pytest.MonkeyPatch) -> None:
    ttc, x = half_gated()
    smoothed, gaps = ttc.smoothed(), []
    assert smoothed is not None
    for sharpness, softness in ((1.0, 0.3), (1000.0, 1e-4)):
        monkeypatch.setattr(smooth, "SHARPNESS", sharpness)
        monkeypatch.setattr(smooth, "GATE_SOFTNESS", softness)
        with torch.no_grad():
            gaps.append(float((smoothed.encode_image(x) - ttc.encode_image(x)).abs().max()))
    assert gaps[1] < 1e-3 < gaps[0]


def test_an_attacker_who_differentiates_it_meets_its_own_values() -> None:
    ttc, x = half_gated()
    leaf = x.clone().requires_grad_()
    z = ttc.encode_image(leaf)
    torch.testing.assert_close(z.detach(), ttc.encode_image(x), rtol=0, atol=1e-5)
    (grad,) = torch.autograd.grad(z.sum(), leaf)
    assert (grad.flatten(1).norm(dim=1) > 0).all()


def test_the_gate_is_positive_exactly_where_it_counterattacks() -> None:
    ttc, x = half_gated()
    opening = ttc.gate(x)
    assert torch.equal(opening > 0, ttc.gated(ttc.probe(x)[2]))
    assert 0 < int((opening > 0).sum()) < 6
