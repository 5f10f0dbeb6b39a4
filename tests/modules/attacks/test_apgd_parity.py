"""APGD against the reference authors' package."""

from __future__ import annotations

import logging
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from modules.attacks import APGD
from modules.perturb import Threat
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, classifier, images

COUNT, STEPS = 300, 50
EPS: dict[Norm, float] = {"linf": 0.012, "l2": 0.11, "l1": 0.7}
RESTARTS: dict[Norm, int] = {"linf": 1, "l2": 1, "l1": 2}  # one sparse run hangs more on its start
APGDLoss = Literal["ce", "dlr", "dlr_targeted"]


def reference_robust(loss: str, norm: Norm, model: Any, x: Tensor, y: Tensor, *, larger_eps: bool = False) -> Tensor:
    """[B] bool: images that the reference attack leaves right."""
    package = pytest.importorskip("pyautoattack.autopgd_base", reason="pyautoattack is a test extra")
    settings = {
        "n_iter": STEPS,
        "norm": norm.capitalize(),
        "eps": EPS[norm],
        "device": "cpu",
        "use_largereps": larger_eps,
        "n_restarts": RESTARTS[norm],
        "logger": logging.getLogger("reference"),  # else it warns of zero gradients, and warnings are errors
    }
    if loss == "dlr_targeted":
        attack = package.APGDAttack_targeted(model, n_target_classes=3, **settings)
    else:
        attack = package.APGDAttack(model, loss=loss, **settings)
    with torch.random.fork_rng(devices=[]):  # the reference seeds the global generator
        x_adv = attack.perturb(x.clone(), y)
    with torch.no_grad():
        return model(x_adv).argmax(dim=1) == y


def assert_same_flags(loss: APGDLoss, norm: Norm, *, larger_eps: bool = False) -> None:
    model, x = classifier(ConvEncoder(seed=4)), images(COUNT, seed=6)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    theirs = reference_robust(loss, norm, model, x, y, larger_eps=larger_eps)
    threat, restarts = Threat(norm, EPS[norm]), RESTARTS[norm]
    attack = APGD(threat, loss=loss, steps=STEPS, targets=3, restarts=restarts, larger_eps=larger_eps)
    with torch.no_grad():
        ours = model(attack(model, x, y, compact=True)).argmax(dim=1) == y
    assert 0.15 < theirs.float().mean() < 0.85, "the radius must neither break all images nor none"
    assert (ours != theirs).float().mean() <= 0.01
    assert ours.float().mean() <= theirs.float().mean() + 0.005


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "dlr_targeted"])
def test_flags_differ_from_the_reference_on_at_most_one_percent(loss: APGDLoss, norm: Norm) -> None:
    assert_same_flags(loss, norm)


@pytest.mark.parametrize("loss", ["ce", "dlr_targeted"])
def test_the_larger_balls_of_l1_match_the_reference_too(loss: APGDLoss) -> None:
    assert_same_flags(loss, "l1", larger_eps=True)


@pytest.mark.parametrize("eps", [0.3, 3.0])
def test_the_l1_projection_is_the_references(eps: float) -> None:
    package = pytest.importorskip("pyautoattack.autopgd_base", reason="pyautoattack is a test extra")
    x = images(20, seed=1)
    delta = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    theirs = x + delta + package.L1_projection(x, delta, eps)
    assert torch.allclose(
        Threat("l1", eps).confine(x, x + delta), theirs, atol=5e-5
    )  # the reference sums in single precision


@pytest.mark.parametrize("steps", range(1, 8))
def test_the_last_l1_steps_are_always_in_the_ball_itself(steps: int) -> None:
    asked: list[Tensor] = []
    threat, x = Threat("l1", 0.5), images(4)

    def loss(point: Tensor) -> Tensor:
        asked.append(point.detach())
        return point.flatten(1).square().sum(dim=1)

    point = APGD(threat, steps=steps).perturb(loss, x)
    assert threat.contains(x, asked[-1]).all() and threat.contains(x, point).all()
    stages = 3 if steps > 2 else 1
    assert len(asked) == steps + stages  # one look at every stage's start
    if stages == 3:
        assert torch.allclose(threat.distance(x, asked[0]), torch.tensor(1.5), rtol=1e-4)


def test_l1_steps_move_few_entries() -> None:
    x = images(4)
    weights = torch.randn(x[0].shape, generator=torch.Generator().manual_seed(3))
    point = APGD(Threat("l1", 1.0), steps=100).perturb(lambda v: (v * weights).flatten(1).sum(dim=1), x)
    gain = ((point - x) * weights).flatten(1).sum(dim=1)
    best = torch.stack([most_gain(image, weights, 1.0) for image in x])
    assert (gain >= 0.97 * best).all()
    assert ((point != x).flatten(1).sum(dim=1) < 20).all()


def most_gain(x: Tensor, weights: Tensor, eps: float) -> Tensor:
    """The best a linear loss can gain: entries in order of their weight, each as far as the box allows."""
    room = torch.where(weights > 0, 1 - x, x).flatten()
    order = weights.flatten().abs().argsort(descending=True)
    before = room[order].cumsum(0) - room[order]
    used = torch.minimum(room[order], (eps - before).clamp_min(0))
    return (used * weights.flatten().abs()[order]).sum()
