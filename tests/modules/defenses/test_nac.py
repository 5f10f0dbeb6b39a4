"""NAC: TTC, and what looking ahead changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.defenses import TTC
from modules.defenses.nac import NAC
from tests.modules.toys import ConvEncoder, LinearEncoder, images


def test_without_momentum_it_is_ttc() -> None:
    encoder, x = ConvEncoder().freeze(), images(8)
    drift = TTC(encoder, eps=0.03).probe(x)[2]
    settings = {"eps": 0.03, "step_size": 0.01, "steps": 3, "tau": float(drift.median())}
    assert torch.allclose(
        NAC(encoder, momentum=0.0, **settings).purify_pixels(x), TTC(encoder, **settings).purify_pixels(x)
    )
    assert not torch.allclose(NAC(encoder, **settings).purify_pixels(x), TTC(encoder, **settings).purify_pixels(x))


def test_the_counterattack_on_a_linear_encoder_is_done_by_hand() -> None:
    encoder, x = LinearEncoder().double().freeze(), images(5, 4).double() * 0.5 + 0.25
    eps, alpha, mu = 0.03, 0.01, 0.9
    nac = NAC(encoder, eps=eps, step_size=alpha, steps=3, tau=10.0, momentum=mu)
    with noise.samples(torch.arange(5)):
        delta, v = nac.threat.sample(x, "ttc"), torch.zeros_like(x)
        deltas: list[Tensor] = [delta]
        for _ in range(3):
            ahead = (delta + mu * v).flatten(1)
            v = mu * v + alpha * (ahead @ encoder.weight.T @ encoder.weight).sign().view_as(x)
            delta = (delta + v).clamp(-eps, eps)
            deltas.append(delta)
        by_hand = x + sum((w * d for w, d in zip(nac.weights(x), deltas, strict=True)), torch.zeros_like(x))
        assert torch.allclose(nac.purify_pixels(x), by_hand)


def test_the_gate_opens_where_it_counterattacks() -> None:
    encoder, x = ConvEncoder().freeze(), images(8)
    drift = TTC(encoder, eps=0.03).probe(x)[2]
    nac = NAC(encoder, eps=0.03, tau=float(drift.sort().values[2:4].mean()))
    pushed = (nac.purify_pixels(x) - nac.probe(x)[1]).flatten(1).abs().amax(dim=1) > 1e-4
    assert pushed.sum() == 3 and torch.equal(pushed, nac.gate(x) > 0)


def test_a_gate_can_be_calibrated_as_ttcs() -> None:
    nac = NAC(ConvEncoder(), calibrate=True)
    nac.calibrate_gate(torch.linspace(0.1, 0.4, 30), torch.linspace(0.5, 0.9, 30))
    assert nac.direction == "above" and 0.4 < nac.tau < 0.5


def test_a_momentum_of_one_is_named() -> None:
    with pytest.raises(ValueError, match=r"momentum is 1\.0"):
        NAC(ConvEncoder(), momentum=1.0)
