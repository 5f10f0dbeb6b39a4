"""AutoAttack against the reference authors' package, member by member and as a whole."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from modules.attacks import AutoAttack
from modules.attacks.auto import Member, Version
from modules.attacks.base import Search
from modules.perturb import Threat
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, classifier, images

COUNT = 300
MODELS = ("digits", "random", "wide")
EPS: dict[tuple[str, Norm], float] = {
    ("digits", "linf"): 0.15,
    ("digits", "l2"): 0.6,
    ("digits", "l1"): 1.2,
    ("random", "linf"): 0.012,
    ("random", "l2"): 0.11,
    ("wide", "linf"): 0.02,
    ("wide", "l2"): 0.2,
}


@cache
def victim(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A model, images it was not trained on, and labels: handwritten digits, or a random network's own answers."""
    if name == "digits":
        return digits()
    model = classifier(ConvEncoder(seed=4)) if name == "random" else classifier(ConvEncoder(dim=48, seed=7), classes=10)
    x = images(COUNT, seed=6)
    with torch.no_grad():
        return model, x, model(x).argmax(dim=1)


def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network trained on handwritten digits and single-step perturbations of them."""
    found: Any = load_digits()
    x, y = torch.tensor(found.images / 16, dtype=torch.float32)[:, None], torch.tensor(found.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10)]
        model = nn.Sequential(*layers)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(300):
            chosen = torch.randint(0, 1400, (128,))
            leaf = x[chosen].requires_grad_()
            (grad,) = torch.autograd.grad(F.cross_entropy(model(leaf), y[chosen]), leaf)
            near = (leaf + 0.15 * grad.sign()).clamp(0, 1).detach()
            optimizer.zero_grad()
            F.cross_entropy(model(near), y[chosen]).backward()
            optimizer.step()
    return model.eval().requires_grad_(False), x[1400 : 1400 + COUNT], y[1400 : 1400 + COUNT]


def reference_robust(
    name: str, norm: Norm, version: Version, attacks: list[Member] | None = None, **settings: int
) -> Tensor:
    """[B] bool: images that the reference leaves right; settings: ``steps``, ``queries``, ``targets``, ``restarts``."""
    package = pytest.importorskip("pyautoattack.autoattack", reason="pyautoattack is a test extra")
    model, x, y = victim(name)
    named = None if attacks is None else [attack.replace("_", "-") for attack in attacks]
    auto = package.AutoAttack(
        model, norm=norm.capitalize(), eps=EPS[name, norm], version=version, attacks=named, seed=0
    )
    auto.verbose = False
    members = (auto.apgd, auto.apgd_targeted, auto.fab)
    wrong_classes = model(x[:1]).shape[1] - 1  # with fewer classes than targets the reference crashes
    for member in members[1:]:
        member.n_target_classes = min(settings.get("targets", member.n_target_classes), wrong_classes)
    for member in members:
        member.n_iter = settings.get("steps", member.n_iter)
        member.n_restarts = settings.get("restarts", member.n_restarts)
    for member in members[:2]:  # what the constructor works out from the number of steps
        member.n_iter_orig = member.n_iter
        for part, least in (("n_iter_2", 0.22), ("n_iter_min", 0.06), ("size_decr", 0.03)):
            setattr(member, part, max(int(least * member.n_iter), 1))
    auto.square.n_queries = settings.get("queries", auto.square.n_queries)
    with torch.random.fork_rng(devices=[]):  # the reference seeds the global generator
        x_adv, _ = auto.run_standard_evaluation(x, y, batch_size=COUNT)
    with torch.no_grad():
        return model(x_adv).argmax(dim=1) == y


def our_robust(name: str, norm: Norm, version: Version, attacks: list[Member] | None = None, **settings: int) -> Tensor:
    model, x, y = victim(name)
    threat = Threat(norm, EPS[name, norm])
    named: list[str] | None = None if attacks is None else list(attacks)
    attack: Any = AutoAttack(threat, version=version, attacks=named, **settings)
    x_adv = attack.on(Search(model, x, y, threat, compact=True))
    assert threat.contains(x, x_adv).all()
    with torch.no_grad():
        return model(x_adv).argmax(dim=1) == y


def assert_alike(ours: Tensor, theirs: Tensor) -> None:
    assert len(ours) >= 300
    assert 0.05 < theirs.float().mean() < 0.9, "the radius must neither break all images nor none"
    assert (ours != theirs).float().mean() <= 0.03  # rounding alone decides a few at the border, either way
    assert ours.float().mean() <= theirs.float().mean() + 0.01


QUICK: dict[str, Any] = {"steps": 20, "queries": 100, "targets": 3, "restarts": 1}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_short_standard_run_finds_what_the_reference_finds(norm: Norm) -> None:
    assert_alike(our_robust("digits", norm, "standard", **QUICK), reference_robust("digits", norm, "standard", **QUICK))


@pytest.mark.parametrize("attack", ["apgd_ce", "apgd_t", "fab_t"])
def test_a_members_short_run_finds_what_the_references_does(attack: Member) -> None:
    ours = our_robust("digits", "linf", "custom", [attack], **QUICK)
    assert_alike(ours, reference_robust("digits", "linf", "custom", [attack], **QUICK))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", MODELS)
def test_the_standard_version_finds_what_the_reference_finds(name: str, norm: Norm) -> None:
    settings: dict[str, Any] = {} if name == "digits" else {"queries": 500}  # Square comes last and finds nothing more
    assert_alike(our_robust(name, norm, "standard", **settings), reference_robust(name, norm, "standard", **settings))


@pytest.mark.slow
def test_the_standard_version_under_l1_finds_what_the_reference_finds() -> None:
    assert_alike(our_robust("digits", "l1", "standard"), reference_robust("digits", "l1", "standard"))


@pytest.mark.slow
def test_the_plus_version_finds_what_the_reference_finds() -> None:
    assert_alike(our_robust("digits", "linf", "plus"), reference_robust("digits", "linf", "plus"))


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["apgd_t", "fab_t"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", MODELS)
def test_a_targeted_member_finds_what_the_references_does(name: str, norm: Norm, attack: Member) -> None:
    assert_alike(our_robust(name, norm, "custom", [attack]), reference_robust(name, norm, "custom", [attack]))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_finds_at_least_what_the_references_does(norm: Norm) -> None:
    ours, theirs = (
        our_robust("digits", norm, "custom", ["square"]),
        reference_robust("digits", norm, "custom", ["square"]),
    )
    assert (
        ours.float().mean() <= theirs.float().mean() + 0.005
    )  # with squares of its own for every image, it finds more
