"""APGD against the reference authors' package."""

from __future__ import annotations

import contextlib
import io
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


def reference_robust(name: str, norm: Norm, model: Any, x: Tensor, y: Tensor) -> Tensor:
    """[B] bool: images that the reference attack leaves right."""
    package = pytest.importorskip("autoattack", reason="pyautoattack is a test extra")
    standard = {"linf": "Linf", "l2": "L2"}[norm]
    adversary = package.AutoAttack(
        model, norm=standard, eps=EPS[norm], version="custom", attacks_to_run=[name], device="cpu", seed=0, verbose=False
    )
    for attack in (adversary.apgd, adversary.apgd_targeted):
        attack.n_iter, attack.n_restarts = STEPS, 1
    adversary.apgd_targeted.n_target_classes = 3
    with contextlib.redirect_stdout(io.StringIO()):
        x_adv = adversary.run_standard_evaluation(x, y, bs=COUNT)
    with torch.no_grad():
        return model(x_adv).argmax(dim=1) == y


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("reference", "loss"), [("apgd-ce", "ce"), ("apgd-dlr", "dlr"), ("apgd-t", "dlr_targeted")]
)
def test_flags_differ_from_the_reference_on_at_most_one_percent(
    reference: str, loss: Literal["ce", "dlr", "dlr_targeted"], norm: Norm
) -> None:
    model, x = classifier(ConvEncoder(seed=4)), images(COUNT, seed=6)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    theirs = reference_robust(reference, norm, model, x, y)
    attack = APGD(Threat(norm, EPS[norm]), loss=loss, steps=STEPS, targets=3)
    with torch.no_grad():
        ours = model(attack(model, x, y)).argmax(dim=1) == y
    assert 0.15 < theirs.float().mean() < 0.85, "the radius must neither break all images nor none"
    assert (ours != theirs).float().mean() <= 0.01
    assert ours.float().mean() <= theirs.float().mean() + 0.005
