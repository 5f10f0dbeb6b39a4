"""TTC with the original encoder's gate."""

from __future__ import annotations

import torch

from modules.defenses import TTC
from modules.defenses.ttc_original import TTCOriginal
from tests.modules.toys import ConvEncoder, images

X = images(8)


def test_before_fine_tuning_it_is_ttc() -> None:
    encoder = ConvEncoder().freeze()
    tau = float(TTC(encoder, eps=0.03).probe(X)[2].median())
    original, plain = TTCOriginal(encoder, encoder, eps=0.03, tau=tau), TTC(encoder, eps=0.03, tau=tau)
    assert torch.equal(original.purify_pixels(X), plain.purify_pixels(X))


def test_the_original_gates_and_the_fine_tuned_counterattacks() -> None:
    tuned, original = ConvEncoder(seed=0).freeze(), ConvEncoder(seed=1).freeze()
    drift = TTC(original, eps=0.03).probe(X)[2]
    tau = float(drift.sort().values[2:4].mean())
    defense = TTCOriginal(tuned, original, eps=0.03, tau=tau)
    z0, noisy, found = defense.probe(X)
    assert torch.equal(found, drift) and torch.equal(z0, tuned.encode_image(X))
    moved = defense.purify_pixels(X)
    pushed = (moved - noisy).flatten(1).abs().amax(dim=1) > 1e-4
    assert torch.equal(pushed, drift < tau)
    everywhere = TTC(tuned, eps=0.03, tau=1e9).purify_pixels(X)
    assert torch.allclose(moved[pushed], everywhere[pushed], atol=1e-6)


def test_no_radius_is_no_defence() -> None:
    encoder = ConvEncoder().freeze()
    assert torch.equal(TTCOriginal(encoder, encoder, eps=0.0).purify_pixels(X), X)
