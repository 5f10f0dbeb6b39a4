"""CSR: the gate, the best step, and who pays."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.defenses import RandomNoise
from modules.defenses.csr import CSR
from modules.defenses.low_pass import low_pass
from tests.modules.defenses.test_ttc import Counting
from tests.modules.toys import ConvEncoder, LinearEncoder, images


def objective(defense: CSR, x: Tensor, v: Tensor) -> Tensor:
    low = defense.encoder.encode_image(low_pass(x, defense.radius).clamp(0, 1))
    z, own = defense.encoder.encode_image(v), defense.encoder.encode_image(x)
    return F.cosine_similarity(z, low) - F.cosine_similarity(z, own)


def cosine_slope(v: Tensor, w: Tensor, target: Tensor) -> Tensor:
    """Gradient of cos(W v, target), worked out on paper."""
    z = v.flatten(1) @ w.T
    u, t = F.normalize(z, dim=1), F.normalize(target, dim=1)
    return (((t - (t * u).sum(dim=1, keepdim=True) * u) / z.norm(dim=1, keepdim=True)) @ w).view_as(v)


def test_the_steps_on_a_linear_encoder_are_done_by_hand() -> None:
    encoder, x = LinearEncoder().double().freeze(), images(5, 4).double() * 0.5 + 0.25
    defense = CSR(encoder, eps=0.9, step_size=0.9, steps=3, tau=1.1)  # too far: not every step is better
    low, own = encoder.encode_image(low_pass(x, defense.radius)), encoder.encode_image(x)
    points = [x]
    for _ in range(3):
        v = points[-1]
        grad = cosine_slope(v, encoder.weight, low) - cosine_slope(v, encoder.weight, own)
        points.append((x + (v + 0.9 * grad.sign() - x).clamp(-0.9, 0.9)).clamp(0, 1))
    best = torch.stack([objective(defense, x, v) for v in points]).argmax(dim=0)
    assert len(best.unique()) > 1
    assert torch.allclose(defense.purify_pixels(x), torch.stack(points)[best, torch.arange(5)])


def test_images_that_their_low_frequencies_agree_with_are_left_alone() -> None:
    x, encoder = images(8), ConvEncoder().freeze()
    cosine = F.cosine_similarity(
        encoder.encode_image(x), encoder.encode_image(low_pass(x, CSR(encoder).radius).clamp(0, 1))
    )
    tau = float(cosine.sort().values[2:4].mean())  # three of eight lie below
    defense = CSR(encoder, tau=tau)
    moved = (defense.purify_pixels(x) != x).flatten(1).any(dim=1)
    assert moved.sum() == 3 and torch.equal(moved, defense.gate(x) > 0)
    assert torch.allclose(defense.gate(x), (tau - cosine) / tau, atol=1e-6)


def test_the_best_step_is_kept_even_if_it_is_the_start() -> None:
    x, encoder = images(8), ConvEncoder().freeze()
    small = CSR(encoder, tau=1.1)
    assert (objective(small, x, small.purify_pixels(x)) > objective(small, x, x)).all()
    huge = CSR(encoder, tau=1.1, eps=1.0, step_size=1.0)  # every step overshoots
    assert (objective(huge, x, huge.purify_pixels(x)) >= objective(huge, x, x)).all()
    assert small.threat.contains(x, small.purify_pixels(x)).all()


def test_only_gated_images_pay_for_the_steps() -> None:
    encoder, x = Counting().freeze(), images(8)
    opening = CSR(encoder).gate(x)
    tau = 0.85 * (1 - float(opening.sort().values[-3:-1].mean()))  # between the two that are least like themselves
    defense = CSR(encoder, tau=tau)
    gated = int((defense.gate(x) > 0).sum())
    encoder.seen = 0
    defense.purify_pixels(x)
    assert 0 < gated < 8 and encoder.seen == 8 + 8 + gated * 4  # three steps and the last point's value


def test_a_random_encoder_inside_knows_its_samples() -> None:
    x, defense = images(8), CSR(RandomNoise(ConvEncoder().freeze(), eps=0.01), tau=0.972)
    with noise.samples(torch.arange(8)):
        whole = defense.purify_pixels(x)
        assert 0 < (defense.gate(x) > 0).sum() < 8
        with noise.subset(torch.tensor([5, 2])):
            assert torch.allclose(defense.purify_pixels(x[[5, 2]]), whole[[5, 2]], atol=1e-6)


def test_contradictory_settings_are_named() -> None:
    with pytest.raises(ValueError, match="tau > 0"):
        CSR(ConvEncoder(), tau=0.0)
