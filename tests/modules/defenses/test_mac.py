"""MAC: the augmented copy, and how hard both looks are pushed."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from modules import noise
from modules.defenses.mac import MAC, ROTATION, SCALE, SHIFT, affine_grid, augmented
from tests.modules.toys import ConvEncoder, LinearEncoder, images


def test_the_copy_is_turned_shifted_and_zoomed_within_the_limits() -> None:
    x = torch.zeros(400, 3, 9, 9)
    with noise.samples(torch.arange(400)):
        grid = affine_grid(x, "mac")
    centre, right = grid[:, 4, 4], grid[:, 4, 8] - grid[:, 4, 4]
    shift = centre / 2  # positions run from -1 to 1, a side is 2 long
    zoom, angle = right.norm(dim=1) * 9 / 8, torch.atan2(right[:, 1], right[:, 0])
    for values, limit in ((shift[:, 0], SHIFT), (shift[:, 1], SHIFT), (zoom - 1, SCALE), (angle, ROTATION)):
        assert values.abs().max() <= limit + 1e-5
        assert values.min() < -0.95 * limit and values.max() > 0.95 * limit
    assert math.degrees(ROTATION) == pytest.approx(5)


def test_every_image_has_its_own_copy_in_the_box() -> None:
    x = images(1).expand(6, -1, -1, -1)
    with noise.samples(torch.arange(6)):
        copies = augmented(x)
        with noise.subset(torch.tensor([4])):
            assert torch.allclose(augmented(x[:1]), copies[4:5])
    assert copies.min() >= 0 and copies.max() <= 1
    assert torch.pdist(copies.flatten(1)).min() > 0.1


def test_the_push_on_a_linear_encoder_is_done_by_hand() -> None:
    encoder, x, eps = LinearEncoder().double().freeze(), images(5, 4).double() * 0.5 + 0.25, 0.04
    defense = MAC(encoder, eps=eps, steps=2, tau=0.3, temperature=0.2)
    with noise.samples(torch.arange(5)):
        z, copy = encoder.encode_image(x), encoder.encode_image(augmented(x))
        drift = (copy - z).norm(dim=1) / z.norm(dim=1)
        delta = defense.threat.sample(x, "mac/0")
        for _ in range(2):
            ascent = (delta.flatten(1) @ encoder.weight.T @ encoder.weight).sign().view_as(x)
            delta = (delta + eps / 4 * ascent).clamp(-eps, eps)
        by_hand = x + torch.sigmoid((drift - 0.3) / 0.2).view(-1, 1, 1, 1) * delta
        assert torch.allclose(defense.purify_pixels(x), by_hand)
        assert torch.allclose(defense.gate(x), (drift - 0.3) / 0.3)


def test_a_small_drift_stops_the_push_of_both_looks() -> None:
    encoder, x = ConvEncoder().freeze(), images(6)
    calm = MAC(encoder, tau=10.0)
    assert all(torch.equal(a, b) for a, b in zip(calm.looks(x), (x, augmented(x)), strict=True))
    alarmed = MAC(encoder, tau=1e-3, temperature=1e-5)
    for look, view in zip(alarmed.looks(x), (x, augmented(x)), strict=True):
        assert alarmed.threat.contains(view, look).all()
        assert (look - view).abs().flatten(1).mean(dim=1).min() > 0.3 * alarmed.threat.eps


def test_both_looks_decide_together() -> None:
    encoder, x = ConvEncoder().freeze(), images(6)
    defense = MAC(encoder, tau=0.2)
    units = [F.normalize(encoder.encode_image(look), dim=1) for look in defense.looks(x)]
    assert torch.allclose(defense.encode_image(x), (units[0] + units[1]) / 2, atol=1e-6)


def test_contradictory_settings_are_named() -> None:
    with pytest.raises(ValueError, match="temperature > 0"):
        MAC(ConvEncoder(), temperature=0.0)
