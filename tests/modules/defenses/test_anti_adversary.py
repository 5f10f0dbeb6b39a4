"""Anti-Adversary: its steps by hand, and what it is not bounded by."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.defenses.anti_adversary import AntiAdversary
from modules.zero_shot import ZeroShotHead
from tests.modules.toys import ConvEncoder, LinearEncoder, head, images


def cross_entropy_slope(x: Tensor, w: Tensor, classify: ZeroShotHead, label: Tensor) -> Tensor:
    """Gradient of CE(head(W x), label) worked out on paper: through softmax, cosine and W."""
    z = x.flatten(1) @ w.T
    u = F.normalize(z, dim=1)
    residual = classify(z).softmax(dim=1) - F.one_hot(label, len(classify.classes))
    dz = residual @ classify.weights * classify.logit_scale
    tangent = (dz - (dz * u).sum(dim=1, keepdim=True) * u) / z.norm(dim=1, keepdim=True)
    return (tangent @ w).view_as(x)


@pytest.mark.parametrize("step_size", [0.02, 10.0])  # the second goes so far that predictions change on the way
def test_the_steps_on_a_linear_encoder_are_done_by_hand(step_size: float) -> None:
    encoder, x, classify = LinearEncoder().double().freeze(), images(64, 4).double(), head(12, scale=3.0).double()
    defense = AntiAdversary(encoder, classify, steps=3, step_size=step_size)
    label = classify(encoder.encode_image(x)).argmax(dim=1)
    by_hand, changed = x, False
    for _ in range(3):
        by_hand = by_hand - step_size * cross_entropy_slope(by_hand, encoder.weight, classify, label).sign()
        changed |= bool((classify(encoder.encode_image(by_hand)).argmax(dim=1) != label).any())
    assert torch.allclose(defense.purify_pixels(x), by_hand)
    assert changed == (step_size > 1)


def test_the_model_gets_surer_of_what_it_thought() -> None:
    encoder, x, classify = ConvEncoder().freeze(), images(16), head(16)
    defense = AntiAdversary(encoder, classify, step_size=0.005)
    before = classify(encoder.encode_image(x))
    after, label = classify(defense.encode_image(x)), before.argmax(dim=1)
    assert (F.cross_entropy(after, label, reduction="none") < F.cross_entropy(before, label, reduction="none")).all()


def test_nothing_bounds_it_as_published_and_the_box_does_on_request() -> None:
    encoder, x = ConvEncoder().freeze(), images(4)
    loose, tight = (AntiAdversary(encoder, head(16), clip=clip).purify_pixels(x) for clip in (False, True))
    assert loose.min() < -0.05 and loose.max() > 1.05
    assert torch.allclose((loose - x).abs().amax(dim=(1, 2, 3)), torch.tensor(0.3))  # two steps of 0.15
    assert tight.min() >= 0 and tight.max() <= 1


def test_no_steps_are_no_defence_and_negative_ones_an_error() -> None:
    x = images(3)
    assert torch.equal(AntiAdversary(ConvEncoder(), head(16), steps=0).purify_pixels(x), x)
    with pytest.raises(ValueError, match="not -1 of"):
        AntiAdversary(ConvEncoder(), head(16), steps=-1)
