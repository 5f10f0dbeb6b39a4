"""Auto-PGD's schedule against the papers' formulas, and every point it visits against the reference's."""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.attacks import APGD, apgd
from modules.attacks.apgd import _value_and_grad
from modules.attacks.apgd_steps import Climb, DenseClimb, SparseClimb
from modules.perturb import Threat
from modules.perturb.losses import Loss, cross_entropy
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, classifier, images

EPS: dict[Norm, float] = {"linf": 0.03, "l2": 0.4, "l1": 3.0}
STEPS = 100


class Watched(torch.nn.Module):
    """A classifier in double precision that notes the points it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.model = classifier(ConvEncoder(seed=4)).double()
        self.points: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.points.append(x.detach().clone())
        return self.model(x)


def batch(model: Watched, count: int = 16) -> tuple[Tensor, Tensor]:
    x = images(count, seed=6).double()
    with torch.no_grad():
        return x, model.model(x).argmax(dim=1)


def reference_points(model: Watched, x: Tensor, y: Tensor, norm: Norm, start: Tensor | None) -> list[Tensor]:
    """The points that the reference visits, its start first."""
    package = pytest.importorskip("pyautoattack.autopgd_base", reason="pyautoattack is a test extra")
    quiet = logging.getLogger("reference")
    settings: dict[str, Any] = {"n_iter": STEPS, "norm": norm.capitalize(), "eps": EPS[norm], "device": "cpu"}
    attack = package.APGDAttack(model, loss="ce", logger=quiet, **settings)
    attack.init_hyperparam(x)
    torch.set_default_dtype(torch.float64)  # it keeps losses and step sizes in the default precision
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            attack.attack_single_run(x, y, start)
    finally:
        torch.set_default_dtype(torch.float32)
    return model.points


def assert_same_path(climb: Climb, loss: Loss, theirs: list[Tensor]) -> None:
    """Every point is the reference's."""
    assert len(theirs) == STEPS + 1
    for i, expected in enumerate(theirs[1:]):
        climb.move(i)
        torch.testing.assert_close(climb.point, expected, rtol=0, atol=1e-8, msg=f"step {i}")
        climb.point = expected  # so that rounding does not add up
        climb.arrive(i, *_value_and_grad(loss, climb.point))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_step_is_the_references(norm: Norm) -> None:
    model = Watched()
    x, y = batch(model)
    threat = Threat(norm, EPS[norm])
    start = (x + threat.sample(x, "start")).clamp(0, 1)
    theirs = reference_points(model, x, y, norm, start)

    def loss(v: Tensor) -> Tensor:
        return cross_entropy(model.model(v), y)

    climb = DenseClimb(threat, x, start, *_value_and_grad(loss, start), steps=STEPS)
    assert_same_path(climb, loss, theirs)
    assert climb.step.max() <= threat.eps / 2, "the test should see some steps halved"


@pytest.mark.parametrize("fresh", [True, False])
def test_every_sparse_step_is_the_references(fresh: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apart from its projection, which knows single precision only, and the entries that only rounding moved."""
    package = pytest.importorskip("pyautoattack.autopgd_base", reason="pyautoattack is a test extra")
    monkeypatch.setattr(package, "L1_projection", lambda x, y, eps: Threat("l1", eps).confine(x, x + y) - (x + y))
    monkeypatch.setattr(package, "L0_norm", lambda delta: (delta.abs() > 1e-12).flatten(1).sum(dim=1))
    model = Watched()
    x, y = batch(model)
    threat = Threat("l1", EPS["l1"])
    start = None if fresh else threat.confine(x, x + 0.1 * (2 * images(16, seed=7).double() - 1).round())
    theirs = reference_points(model, x, y, "l1", start)

    def loss(v: Tensor) -> Tensor:
        return cross_entropy(model.model(v), y)

    begin = theirs[0]
    climb = SparseClimb(threat, x, begin, *_value_and_grad(loss, begin), steps=STEPS, fresh=fresh)
    assert_same_path(climb, loss, theirs)


def checkpoints_on_paper(steps: int) -> list[int]:
    """w_j = ceil(p_j N), p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06) (arXiv:2003.01690)."""
    before, now, found = Fraction(0), Fraction("0.22"), []
    while now <= 1:
        found.append(math.ceil(now * steps))
        before, now = now, now + max(now - before - Fraction("0.03"), Fraction("0.06"))
    return found


class Noted(DenseClimb):
    """A climb that notes when it revises its stride."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.checkpoints: list[int] = []

    def _checkpoint(self, i: int) -> None:
        self.checkpoints.append(i + 1)
        super()._checkpoint(i)


def climb_of(steps: int, **settings: Any) -> Noted:
    x = torch.full((1, 3, 2, 2), 0.5)
    return Noted(Threat("linf", 0.1), x, x, torch.zeros(1), torch.ones_like(x), steps=steps, **settings)


@pytest.mark.parametrize("steps", [100, 200, 500])
def test_the_stride_is_revised_at_the_papers_checkpoints(steps: int) -> None:
    climb = climb_of(steps)
    for i in range(steps):
        climb.move(i)
        climb.arrive(i, torch.full((1,), float(i)), climb.grad)
    assert climb.checkpoints == checkpoints_on_paper(steps)
    assert checkpoints_on_paper(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize(("rising", "halved"), [(16, True), (17, False)])
def test_the_stride_halves_where_no_more_than_three_quarters_of_the_steps_rise(rising: int, halved: bool) -> None:
    """Of the 22 steps to the first checkpoint: 16 are fewer than 16.5, 17 are more; the others fall."""
    climb, value = climb_of(100), 0.0
    climb.history[:, -1] = 1e6  # the first step is compared with it, and does not count as a rise
    for i in range(22):
        value += 1.0 if 1 <= i <= rising else -0.01
        climb.move(i)
        climb.arrive(i, torch.full((1,), value), climb.grad)
    assert float(climb.step) == pytest.approx(0.1 if halved else 0.2)


def test_a_run_that_never_reaches_its_start_halves_at_the_second_checkpoint_and_not_at_the_first() -> None:
    climb = climb_of(100)
    climb.best_value = climb.checked_value = torch.full((1,), 1e6)
    lengths = []
    for i in range(57):
        climb.move(i)
        climb.arrive(i, torch.full((1,), float(i)), climb.grad)
        lengths.append(float(climb.step))
    assert climb.checkpoints == [22, 41, 57]
    # Halved at the last checkpoint, it is given until the next one.
    assert (lengths[21], lengths[40], lengths[56]) == pytest.approx((0.2, 0.1, 0.1))


def test_a_sparse_stride_grows_back_where_the_entries_become_fewer_and_shrinks_elsewhere() -> None:
    """By 1.5 and down to a tenth; fewer means fewer than 95 % of those of the last checkpoint."""
    x, eps = torch.full((1, 1, 10, 10), 0.5), 1.0

    def changed(count: int) -> Tensor:
        return x + (torch.arange(100).view_as(x) < count) * 0.01

    start = changed(100)
    climb = SparseClimb(Threat("l1", eps), x, start, torch.zeros(1), torch.ones_like(x), steps=25, fresh=False)
    found, value = [], 0.0
    for i, count in enumerate([95, 90, 89, 84, 84, 84, 84, 84, 84, 84, 84]):
        climb.point, value = changed(count), value + 1
        climb.arrive(i, torch.full((1,), value), climb.grad)
        found.append(float(climb.step))
        assert float(climb.share) == pytest.approx(count / 100 / 1.5)
    shrinking = [max(eps / 1.5**k, eps / 10) for k in range(1, 8)]
    assert found == pytest.approx([eps / 1.5, eps, eps / 1.5, eps, *shrinking])


def test_the_first_step_is_twice_the_radius_and_later_ones_keep_a_quarter_of_the_last() -> None:
    x = torch.full((1, 1, 1, 1), 0.5)
    climb = DenseClimb(Threat("linf", 0.3), x, x, torch.zeros(1), torch.ones_like(x), steps=100)
    assert float(climb.step) == pytest.approx(2 * 0.3)
    climb.step = torch.full((1,), 0.05)  # none of these steps leaves the ball
    expected = [0.05, 0.75 * 0.05 + 0.25 * 0.05, -0.75 * 0.05 + 0.25 * 0.05]
    for i, length in enumerate(expected):
        before = climb.point
        climb.grad = torch.full_like(x, 1.0 if i < 2 else -1.0)
        climb.move(i)
        assert float(climb.point - before) == pytest.approx(length, abs=1e-6)


@pytest.mark.parametrize(("steps", "expected"), [(100, (30, 30, 40)), (10, (3, 3, 4)), (11, (4, 4, 3)), (2, ())])
def test_l1_spends_thirty_percent_of_its_steps_in_each_larger_ball(
    steps: int, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, int, bool]] = []

    class Seen(SparseClimb):
        def __init__(self, threat: Threat, *args: Any, steps: int, fresh: bool) -> None:
            super().__init__(threat, *args, steps=steps, fresh=fresh)
            seen.append((threat.eps, steps, fresh))

    monkeypatch.setattr(apgd, "SparseClimb", Seen)
    x = images(2)
    APGD(Threat("l1", 1.0), steps=steps).perturb(lambda v: v.flatten(1).sum(dim=1), x)
    if expected:
        assert seen == [(eps, count, False) for eps, count in zip((3.0, 2.0, 1.0), expected, strict=True)]
    else:
        assert seen == [(1.0, 2, True)]
