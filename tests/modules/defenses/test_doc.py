"""DOC: momentum, detours, and the weight between counterattack and noise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.defenses.doc import DOC, orthogonal_to
from tests.modules.toys import ConvEncoder, LinearEncoder, images


def test_detours_are_unit_vectors_at_right_angles_to_the_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    g = F.normalize(torch.randn(4, 48, generator=generator, dtype=torch.float64), dim=1).view(4, 3, 4, 4)
    r = orthogonal_to(g, torch.randn(g.shape, generator=generator, dtype=torch.float64))
    assert (r * g).flatten(1).sum(dim=1).abs().max() < 1e-12
    assert torch.allclose(r.flatten(1).norm(dim=1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize(("orthogonal", "momentum"), [(0.0, 0.0), (0.0, 0.75), (2.0, 0.5)])
def test_the_counterattack_on_a_linear_encoder_is_done_by_hand(orthogonal: float, momentum: float) -> None:
    encoder, x, eps, alpha = LinearEncoder().double().freeze(), images(5, 4).double() * 0.5 + 0.25, 0.03, 0.01
    doc = DOC(
        encoder,
        eps=eps,
        step_size=alpha,
        steps=3,
        orthogonal=orthogonal,
        momentum=momentum,
        tau=1e9,  # all weight on the counterattack
    )

    def unit(v: Tensor) -> Tensor:
        return F.normalize(v.flatten(1), dim=1).view_as(x)

    with noise.samples(torch.arange(5)):
        delta, m = doc.threat.sample(x, "doc"), torch.zeros_like(x)
        for step in range(3):
            g = unit((delta.flatten(1) @ encoder.weight.T @ encoder.weight).view_as(x))
            r = orthogonal_to(g, noise.normal(x, f"doc/orthogonal/{step}"))
            m = momentum * m + (1 - momentum) * (g + orthogonal * r) if step else g
            delta = (delta + alpha * m.sign()).clamp(-eps, eps)
        assert torch.allclose(doc.purify_pixels(x), x + delta)


def test_small_scores_are_counterattacked_and_large_ones_keep_the_noise() -> None:
    encoder, x = ConvEncoder().freeze(), images(8)
    score = DOC(encoder).score(x, encoder.encode_image(x))
    tau = float(score.sort().values[2:4].mean())
    start = (x + DOC(encoder).threat.sample(x, "doc")).clamp(0, 1)
    for direction, expected in (("below", score < tau), ("above", score > tau)):
        sharp = DOC(encoder, tau=tau, gamma=1e9, direction="below" if direction == "below" else "above")
        pushed = (sharp.purify_pixels(x) - start).flatten(1).abs().amax(dim=1) > 1e-3
        assert torch.equal(pushed, expected) and torch.equal(sharp.gate(x) > 0, expected)


def test_the_weight_is_the_sigmoid_of_the_published_equation() -> None:
    encoder, x = ConvEncoder().freeze(), images(4)
    soft, full = (DOC(encoder, tau=tau, gamma=20.0) for tau in (0.01, 1e9))
    start, end = (x + soft.threat.sample(x, "doc")).clamp(0, 1), full.purify_pixels(x)
    w = torch.sigmoid(20.0 * (0.01 - soft.score(x, encoder.encode_image(x)))).view(-1, 1, 1, 1)
    assert torch.allclose(soft.purify_pixels(x), w * end + (1 - w) * start, atol=1e-6)
    assert w.min() > 0.4 and w.max() < 0.6  # neither side is all


def test_no_steps_leave_the_noise_and_a_momentum_of_one_is_named() -> None:
    x, encoder = images(3), ConvEncoder().freeze()
    doc = DOC(encoder, steps=0)
    assert torch.allclose(doc.purify_pixels(x), (x + doc.threat.sample(x, "doc")).clamp(0, 1))
    with pytest.raises(ValueError, match=r"momentum in \[0, 1\)"):
        DOC(encoder, momentum=1.0)
