"""What a defence costs is counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eval.cost import Passes, cost_of, counted, gradient_ratio
from modules.defenses import TTC, CLIPureCos, Defense, RandomNoise, Undefended
from modules.encoders.base import ImageEncoder
from tests.modules.toys import ConvEncoder, head, images

ENCODER = ConvEncoder().freeze()
X = images(6)
BLANK = torch.ones(16)


def classify(encoder: ImageEncoder, x: Tensor) -> Tensor:
    return encoder.logits(x, head(16))


@pytest.mark.parametrize(
    ("defense", "forwards", "backwards"),
    [
        (Undefended(ENCODER), 1, 0),
        (RandomNoise(ENCODER), 1, 0),
        (CLIPureCos(ENCODER, BLANK), 1, 0),
        (TTC(ENCODER, steps=3, tau=1e9), 6, 3),  # two for the probe, three steps, one look
        (TTC(ENCODER, steps=3, tau=0.0), 3, 0),  # the gate saves the steps
    ],
    ids=["none", "noise", "cos", "ttc", "ttc_shut"],
)
def test_passes_are_counted_per_image(defense: Defense, forwards: float, backwards: float) -> None:
    cost = cost_of(defense, classify, X)
    assert (cost.forwards, cost.backwards) == (forwards, backwards)
    assert cost.batch == 6 and cost.milliseconds > 0 and cost.bare_milliseconds > 0


def test_counting_leaves_the_encoder_as_it_was() -> None:
    before = ENCODER.encode_image(X)
    with pytest.raises(RuntimeError, match="stop"), counted(ENCODER) as passes:
        ENCODER.encode_image(X)
        raise RuntimeError("stop")
    assert passes == Passes(6, 0)
    assert "encode_image" not in vars(ENCODER)
    assert torch.equal(ENCODER.encode_image(X), before)


def test_a_gradient_through_a_loop_is_dearer() -> None:
    assert gradient_ratio(Undefended(ENCODER), classify, X) == 1
    assert gradient_ratio(CLIPureCos(ENCODER, BLANK), classify, X) == 1
    assert gradient_ratio(TTC(ENCODER, steps=1, tau=1e9), classify, X) >= 4


def test_a_defence_without_a_gradient_costs_its_forwards() -> None:
    class Cut(Defense):
        def purify_latent(self, z: Tensor) -> Tensor:
            return z.detach()

    assert gradient_ratio(Cut(ENCODER), classify, X) == pytest.approx(1 / 3)
