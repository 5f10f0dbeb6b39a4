"""Hedge Defense: all classes at once, and the prediction the release makes on the way."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.defenses.hedge import HedgeDefense, cross_entropy_to_all
from tests.modules.toys import ConvEncoder, head, images


def walk(defense: HedgeDefense, x: Tensor) -> list[Tensor]:
    """Every point of the ascent, written slowly."""
    eps, points = defense.threat.eps, [(x + defense.threat.sample(x, "hedge")).clamp(0, 1)]
    for _ in range(defense.steps):
        leaf = points[-1].clone().requires_grad_()
        logits = defense.head(defense.encoder.encode_image(leaf))
        classes = range(logits.shape[1])
        loss = sum((F.cross_entropy(logits, torch.full((len(x),), c)) for c in classes), torch.zeros(()))
        (grad,) = torch.autograd.grad(loss, leaf)
        moved = leaf.detach() + defense.step_size * grad.sign()
        points.append((x + (moved - x).clamp(-eps, eps)).clamp(0, 1))
    return points


def test_the_loss_is_the_divergence_from_uniform_and_a_constant() -> None:
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniform = torch.full((4, 7), 1 / 7, dtype=torch.float64)
    divergence = F.kl_div(logits.log_softmax(dim=1), uniform, reduction="none").sum(dim=1)
    assert torch.allclose(cross_entropy_to_all(logits), 7 * (divergence + math.log(7)))


@pytest.mark.parametrize("predict", ["final", "sum"])
def test_it_predicts_as_a_slow_loop_does(predict: str) -> None:
    encoder, classify, x = ConvEncoder().double().freeze(), head(16).double(), images(6).double()
    defense = HedgeDefense(encoder, classify, steps=6, predict="sum" if predict == "sum" else "final")
    points = walk(defense, x)
    if predict == "final":
        assert torch.allclose(defense.encode_image(x), encoder.encode_image(points[-1]))
        return
    summed = torch.stack([classify(encoder.encode_image(p)) for p in points[1:-1]]).sum(dim=0)  # 1 .. 19 of 0 .. 20
    found = classify(defense.encode_image(x))
    assert torch.allclose(F.normalize(found, dim=1), F.normalize(summed, dim=1))


def test_the_final_point_is_in_ball_and_box_and_further_from_uniform() -> None:
    encoder, classify, x = ConvEncoder().freeze(), head(16), images(8)
    defense = HedgeDefense(encoder, classify)
    final = defense.purify_pixels(x)
    assert defense.threat.contains(x, final).all()
    before, after = (cross_entropy_to_all(classify(encoder.encode_image(v))) for v in (x, final))
    assert (after > before).all()


def test_too_few_steps_to_sum_over_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(sum\) takes steps >= 2"):
        HedgeDefense(ConvEncoder(), head(16), steps=1)
    HedgeDefense(ConvEncoder(), head(16), steps=1, predict="final")
