"""ET3: down the energy, by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from modules.defenses.et3 import ET3
from tests.modules.toys import ConvEncoder, LinearEncoder, head, images


def test_the_steps_on_a_linear_encoder_are_done_by_hand() -> None:
    encoder, classify = LinearEncoder().double().freeze(), head(12, scale=3.0).double()
    x, w, temperature = images(5, 4).double() * 0.5 + 0.25, encoder.weight, 2.0
    defense = ET3(encoder, classify, steps=2, step_size=0.05 * 224 / 4, eps=1.0, temperature=temperature)
    by_hand = x
    for _ in range(2):
        z = by_hand.flatten(1) @ w.T
        u = F.normalize(z, dim=1)
        dz = (classify(z) / temperature).softmax(dim=1) @ classify.weights * classify.logit_scale
        tangent = (dz - (dz * u).sum(dim=1, keepdim=True) * u) / z.norm(dim=1, keepdim=True)
        by_hand = by_hand + 0.05 * F.normalize(tangent @ w, dim=1).view_as(x)
    assert torch.allclose(defense.purify_pixels(x), by_hand)


def test_energy_falls_inside_the_ball() -> None:
    x = images(8) * 0.5 + 0.25
    defense = ET3(ConvEncoder().freeze(), head(16), step_size=2.0)
    moved = defense.purify_pixels(x)
    assert defense.threat.contains(x, moved).all()
    assert (defense.evidence(moved) > defense.evidence(x)).all()


def test_a_pixel_moves_as_far_at_every_size() -> None:
    sizes = [ET3(ConvEncoder(size=size), head(16)).step_size / size for size in (8, 32, 224)]
    assert sizes == pytest.approx([2.5 / 224] * 3)


def test_a_temperature_of_nothing_is_named() -> None:
    with pytest.raises(ValueError, match="temperature > 0"):
        ET3(ConvEncoder(), head(16), temperature=0.0)
