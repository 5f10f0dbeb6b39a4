"""FAB against the reference authors' package."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules.attacks import FAB
from modules.attacks.base import Classifier
from modules.perturb import Threat
from modules.perturb.threat import Norm
from tests.modules.attacks.victims import predictions, victim
from tests.modules.toys import images

COUNT, STEPS = 300, 30
EPS: dict[Norm, float] = {"linf": 0.012, "l2": 0.11, "l1": 1.0}


def reference_robust(model: Classifier, norm: Norm, targets: int, x: Tensor, y: Tensor) -> Tensor:
    """[B] bool: images that the reference attack leaves right."""
    package = pytest.importorskip("pyautoattack.fab_pt", reason="pyautoattack is a test extra")
    attack = package.FABAttack_PT(
        model,
        norm={"linf": "Linf", "l2": "L2", "l1": "L1"}[norm],
        n_iter=STEPS,
        eps=EPS[norm],
        targeted=targets > 0,
        n_target_classes=targets,
        device="cpu",
    )
    with torch.random.fork_rng(devices=[]):  # the reference seeds the global generator
        return predictions(model, attack.perturb(x.clone(), y)) == y


def slow(*row: object) -> object:
    return pytest.param(*row, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "norm", "targets"),
    [
        ("trained", "linf", 0),
        ("random", "l2", 3),
        slow("trained", "linf", 3),
        slow("trained", "l2", 0),
        slow("trained", "l1", 0),
        slow("trained", "l1", 3),
        slow("random", "linf", 0),
        slow("random", "linf", 3),
        slow("random", "l2", 0),
        slow("wide", "linf", 3),
        slow("wide", "l2", 0),
        slow("wide", "l1", 3),
    ],
)
def test_flags_differ_from_the_reference_on_at_most_one_percent(name: str, norm: Norm, targets: int) -> None:
    model, x = victim(name), images(COUNT, seed=6)
    y = predictions(model, x)
    theirs = reference_robust(model, norm, targets, x, y)
    threat = Threat(norm, EPS[norm])
    x_adv = FAB(threat, steps=STEPS, targets=targets)(model, x, y, compact=True)
    ours = predictions(model, x_adv) == y
    assert 0.15 < theirs.float().mean() < 0.85, "the radius must neither break all images nor none"
    assert (ours != theirs).float().mean() <= 0.01
    assert ours.float().mean() <= theirs.float().mean() + 0.005
