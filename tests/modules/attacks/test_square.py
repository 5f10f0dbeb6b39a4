"""Square's squares: where they lie, how large they are, what is painted into them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.attacks import Square
from modules.attacks.base import Search
from modules.perturb import Threat
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, classifier, images

MODEL, X = classifier(ConvEncoder()), images(10)
with torch.no_grad():
    Y = MODEL(X).argmax(dim=1)
EPS: dict[Norm, float] = {"linf": 0.03, "l2": 0.3, "l1": 2.0}
every_norm = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])


def reference(norm: Norm, **settings: object) -> Any:
    package = pytest.importorskip("pyautoattack.square", reason="pyautoattack is a test extra")
    return package.SquareAttack(MODEL, norm={"linf": "Linf", "l2": "L2", "l1": "L1"}[norm], device="cpu", **settings)


@every_norm
def test_sides_shrink_on_the_reference_schedule(norm: Norm) -> None:
    theirs, x = reference(norm, n_queries=5000, resc_schedule=False), torch.zeros(1, 3, 224, 224)
    ours = Square(Threat(norm), queries=7)
    for query in (0, 10, 11, 50, 51, 200, 201, 501, 1001, 2001, 4001, 6001, 8001, 10**6):
        side = round((theirs.p_selection(query) * 224 * 224) ** 0.5)
        assert ours._side(x, query) == (side if norm == "linf" else side + 1 - side % 2)
    assert [ours._side(torch.zeros(1, 3, 4, 2), query) for query in (0, 10**6)] == (
        [2, 1] if norm == "linf" else [2, 2]
    )


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("side", [1, 2, 3, 6, 11])
def test_patterns_are_the_reference_ones(norm: Norm, side: int) -> None:
    with torch.random.fork_rng(devices=[]):
        theirs = reference(norm).eta(side)
    ours = Square(Threat(norm))._pattern(side, X)
    assert any(torch.allclose(pattern, theirs, atol=1e-6) for pattern in ours)
    assert torch.equal(ours[0], ours[1].T)


def test_a_proposal_takes_one_square_of_each_image_to_the_faces_of_the_ball() -> None:
    attack = Square(Threat("linf", 0.1), p=0.1)
    x = images(50).clamp(0.2, 0.8)
    best = attack._stripes(x, "start")
    assert torch.allclose((best - x).abs(), torch.tensor(0.1), atol=1e-6)
    proposed = attack._propose(x, x, 0, torch.rand(50, 8, generator=torch.Generator().manual_seed(0)))
    changed = proposed != x
    assert (changed.sum(dim=(1, 2, 3)) == 3 * 3 * 3).all()  # sides of 3 pixels, three channels
    assert torch.allclose((proposed - x)[changed].abs(), torch.tensor(0.1), atol=1e-6)
    first = torch.stack([changed[:, 0].any(dim=2).int().argmax(dim=1), changed[:, 0].any(dim=1).int().argmax(dim=1)])
    assert first.amin() == 0 and first.amax() == 5, "from the first to the last place"
    assert len(first.unique(dim=1).T) > 15, "every image has a square of its own"
    assert (proposed - x).sign().amin(dim=(2, 3)).unique().numel() > 1


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_proposal_leaves_the_budget_spent(norm: Norm) -> None:
    attack = Square(Threat(norm, EPS[norm]))
    x = images(20).clamp(0.3, 0.7)
    best = attack._tiles(x, "start")
    assert torch.allclose(attack.threat.distance(x, best), torch.tensor(EPS[norm]), rtol=1e-3)
    numbers = torch.rand(20, 8, generator=torch.Generator().manual_seed(0))
    proposed = attack._propose(x, best, 600, numbers)
    assert torch.allclose(attack.threat.distance(x, proposed), torch.tensor(EPS[norm]), rtol=1e-3)
    assert not torch.equal(proposed, best)


@every_norm
def test_a_run_asks_once_for_the_start_and_once_a_query(norm: Norm) -> None:
    asked: list[int] = []

    def counting(x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        asked.append(len(x))
        return MODEL(x)

    Square(Threat(norm, EPS[norm]), queries=7).perturb(lambda x: counting(x)[:, 0], X)
    assert asked == [len(X)] * 8


def test_fallen_images_are_not_asked_about_again() -> None:
    asked: list[int] = []

    def counting(x: Tensor) -> Tensor:
        asked.append(len(x))
        return MODEL(x)

    threat = Threat("linf", 0.06)
    search = Search(counting, X, Y, threat, compact=True)
    Square(threat, queries=300).on(search)
    fallen = int((search.margin > 0).sum())
    assert fallen >= 3 and asked[-2] < len(X) and sum(asked) < 0.9 * len(X) * 301


@every_norm
@pytest.mark.parametrize("named", [True, False])
def test_neither_neighbours_nor_compaction_change_a_run(norm: Norm, named: bool) -> None:
    attack, order = Square(Threat(norm, 2 * EPS[norm]), queries=150), torch.tensor([7, 2, 9])
    keys = noise.keys_of([f"{i}" for i in range(10)])
    with noise.samples(keys) if named else nullcontext():
        whole, compact = attack(MODEL, X, Y), attack(MODEL, X, Y, compact=True)
    with noise.samples(keys[order]) if named else nullcontext():
        part = attack(MODEL, X[order], Y[order])
    assert torch.allclose(part, whole[order], atol=1e-6)
    with torch.no_grad():
        fooled, fell = MODEL(whole).argmax(dim=1) != Y, MODEL(compact).argmax(dim=1) != Y
    assert torch.equal(fooled, fell) and 2 < fell.sum() < 10
    assert torch.allclose(compact[~fell], whole[~fell], atol=1e-6)


@every_norm
def test_the_margin_goes_on_growing_where_images_are_not_left_out(norm: Norm) -> None:
    threat = Threat(norm, 4 * EPS[norm])
    margins = []
    for queries in (20, 100, 400):
        search = Search(MODEL, X, Y, threat)
        Square(threat, queries=queries).on(search)
        margins.append(search.margin)
    assert (margins[0] > 0).any()
    assert (margins[1] >= margins[0]).all() and (margins[2] >= margins[1]).all()
    assert (margins[2] > margins[1])[margins[1] > 0].any()


@every_norm
@pytest.mark.parametrize("size", [(8, 5), (3, 3), (1, 1), (13, 16)])
def test_any_image_size_will_do(norm: Norm, size: tuple[int, int]) -> None:
    x = torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(0))
    threat = Threat(norm, 0.2)
    x_adv = Square(threat, queries=30).perturb(lambda v: v.flatten(1).sum(dim=1), x)
    assert threat.contains(x, x_adv).all() and (x_adv.flatten(1).sum(1) > x.flatten(1).sum(1)).any()


@every_norm
def test_with_eps_zero_nothing_moves(norm: Norm) -> None:
    assert torch.equal(Square(Threat(norm, 0.0))(MODEL, X, Y), X)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_are_enough(classes: int) -> None:
    model = classifier(ConvEncoder(), classes=classes)
    with torch.no_grad():
        y = model(X).argmax(dim=1)
        assert (model(Square(Threat("linf", 0.5), queries=100)(model, X, y)).argmax(dim=1) != y).any()


@pytest.mark.parametrize(("settings", "told"), [({"queries": -1}, "queries=-1"), ({"p": 0.0}, "p=0.0")])
def test_settings_out_of_range_are_named(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Square(Threat(), **settings)  # pyright: ignore[reportArgumentType]
