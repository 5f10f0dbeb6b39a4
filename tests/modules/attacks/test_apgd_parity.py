"""APGD against the reference authors' package."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from modules.attacks import APGD
from modules.perturb import Threat
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, classifier, images

COUNT, STEPS = 300, 50
EPS: dict[Norm, float] = {"linf": 0.012, "l2": 0.11}


def reference_robust(loss: str, norm: Norm, model: Any, x: Tensor, y: Tensor) -> Tensor:
    """[B] bool: images that the reference attack leaves right."""
    package = pytest.importorskip("pyautoattack.autopgd_base", reason="pyautoattack is a test extra")
    settings = {
        "n_iter": STEPS,
        "norm": {"linf": "Linf", "l2": "L2"}[norm],
        "eps": EPS[norm],
        "device": "cpu",
    }
    if loss == "dlr_targeted":
        attack = package.APGDAttack_targeted(model, n_target_classes=3, **settings)
    else:
        attack = package.APGDAttack(model, loss=loss, **settings)
    with torch.random.fork_rng(devices=[]):  # the reference seeds the global generator
        x_adv = attack.perturb(x.clone(), y)
    with torch.no_grad():
        return model(x_adv).argmax(dim=1) == y


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "dlr_targeted"])
def test_flags_differ_from_the_reference_on_at_most_one_percent(
    loss: Literal["ce", "dlr", "dlr_targeted"], norm: Norm
) -> None:
    model, x = classifier(ConvEncoder(seed=4)), images(COUNT, seed=6)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    theirs = reference_robust(loss, norm, model, x, y)
    attack = APGD(Threat(norm, EPS[norm]), loss=loss, steps=STEPS, targets=3)
    with torch.no_grad():
        ours = model(attack(model, x, y)).argmax(dim=1) == y
    assert 0.15 < theirs.float().mean() < 0.85, "the radius must neither break all images nor none"
    assert (ours != theirs).float().mean() <= 0.01
    assert ours.float().mean() <= theirs.float().mean() + 0.005
