"""Where few images stand, several targets are aimed at in one batch: the same images fall, in fewer, fuller passes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modules import noise
from modules.attacks import APGD, FAB, AutoAttack
from modules.attacks.base import Attack, Search
from modules.attacks.search import _best_of_each
from modules.perturb import Threat
from modules.perturb.losses import margin
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, classifier, images

MODEL = classifier(ConvEncoder()).double()
X = images(40).double()
with torch.no_grad():
    CLEAN = MODEL(X).argmax(dim=1)
Y = torch.where(torch.arange(len(X)) % 4 == 0, CLEAN, (CLEAN + 1) % 6)
"""Of every four images only one stands at first."""
BALLS: dict[Norm, float] = {"linf": 0.008, "l2": 0.09, "l1": 1.2}
ATTACKS: dict[str, Callable[[Threat], Attack]] = {
    "apgd_t": lambda ball: APGD(ball, loss="dlr_targeted", steps=6),
    "apgd_t, twice": lambda ball: APGD(ball, loss="margin_targeted", steps=4, restarts=2),
    "fab_t": lambda ball: FAB(ball, steps=4, targets=5),
    "fab_t, twice": lambda ball: FAB(ball, steps=3, targets=4, restarts=2),
    "autoattack": lambda ball: AutoAttack(ball, steps=5, queries=20),
}


def run(attack: Attack, *, apart: bool = False, **settings: object) -> tuple[Search, list[int]]:
    """A compact search that the attack has worked on, and how many rows each pass had."""
    rows: list[int] = []

    def counted(x: Tensor) -> Tensor:
        rows.append(len(x))
        return MODEL(x)

    search = Search(counted, X, Y, attack.threat, compact=True, **settings)  # pyright: ignore[reportArgumentType]
    if apart:
        search.room = lambda: 1
    with noise.samples(noise.keys_of([str(i) for i in range(len(X))])):
        attack.on(search)
    return search, rows


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ATTACKS)
def test_the_images_that_fall_are_those_of_one_target_after_the_other(name: str, norm: Norm) -> None:
    attack = ATTACKS[name](Threat(norm, BALLS[norm]))
    together, few = run(attack)
    apart, many = run(attack, apart=True)
    assert torch.equal(together.margin > 0, apart.margin > 0)
    standing = (together.margin <= 0).float().mean()
    assert 0 < standing < 0.25, "some stand, and some of those that stood at first fell"
    assert len(few) < 0.75 * len(many) and max(few) == len(X)
    with torch.no_grad():
        torch.testing.assert_close(together.margin, margin(MODEL(together.worst), Y).float(), rtol=0, atol=1e-5)
    assert attack.threat.contains(X, together.worst).all()


@pytest.mark.parametrize("name", ATTACKS)
def test_images_that_all_stand_to_the_end_have_met_the_very_points(name: str) -> None:
    """A row does not know of the rows beside it: what is kept of an image is the worst of all its rows' points."""
    attack = ATTACKS[name](Threat("linf", 0.001))
    together, apart = run(attack)[0], run(attack, apart=True)[0]
    standing = apart.margin <= 0
    assert standing.sum() >= 8
    torch.testing.assert_close(together.worst[standing], apart.worst[standing], rtol=0, atol=1e-9)
    torch.testing.assert_close(together.margin[standing], apart.margin[standing], rtol=0, atol=1e-6)


def test_a_target_starts_from_the_same_random_point_whether_alone_or_beside_others() -> None:
    points: list[list[Tensor]] = []

    class Watched(APGD):
        def _perturb(self, loss: object, x: Tensor, stream: str) -> Tensor:
            start = self.threat.sample_far(x, stream)
            points[-1] += list(start)
            return super()._perturb(loss, x, stream)  # pyright: ignore[reportArgumentType]

    for apart in (True, False):
        points.append([])
        run(Watched(Threat("linf", 1e-6), loss="dlr_targeted", steps=1), apart=apart)
    one_by_one, beside = (torch.stack(each) for each in points)
    assert torch.equal(one_by_one, beside) and len(one_by_one) == 5 * 10
    assert len({tuple(point.flatten().tolist()) for point in one_by_one}) == 5 * 10


@pytest.mark.parametrize("settings", [{"draws": 2}, {"judge": MODEL}])
def test_what_is_drawn_or_judged_by_the_number_of_a_look_is_aimed_at_one_target_at_a_time(
    settings: dict[str, object],
) -> None:
    search = Search(MODEL, X, Y, Threat(), compact=True, **settings)  # pyright: ignore[reportArgumentType]
    search.begin()
    assert search.room() == 1


def test_there_is_room_for_as_many_targets_as_keep_the_batch_no_larger() -> None:
    search = Search(MODEL, X, Y, Threat(), compact=True)
    assert search.room() == 1
    search.begin()
    assert search.room() == 4
    search.margin[:] = torch.where(torch.arange(len(X)) < 3, -1.0, 1.0)
    assert search.room() == 13
    search.margin[:] = 1.0
    assert search.room() == 40
    whole = Search(MODEL, X, Y, Threat())
    whole.begin()
    assert whole.room() == 1


def test_rows_carry_the_labels_of_their_goal_while_others_are_left_out() -> None:
    search = Search(MODEL, X, Y, Threat(), compact=True)
    search.begin()
    goals = [(Y, (Y + shift) % 6) for shift in (1, 2, 3)]
    search.aim(margin, *goals, first=2)
    standing = torch.arange(0, len(X), 4)
    assert torch.equal(search.index, standing.repeat(3)) and search.lane.tolist() == [2] * 10 + [3] * 10 + [4] * 10
    search.margin[standing[::2]] = 1.0
    search.narrow()
    label, target = search.row_labels()
    assert torch.equal(label, Y[search.index]) and torch.equal(search.index, standing[1::2].repeat(3))
    assert torch.equal((target - label) % 6, search.lane - 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 1.0, 2.0]), st.booleans()), max_size=20))
def test_of_an_images_rows_the_worst_is_kept_and_the_first_of_equals(rows: list[tuple[int, float, bool]]) -> None:
    index = torch.tensor([image for image, _, _ in rows], dtype=torch.long)
    value = torch.tensor([margin for _, margin, _ in rows])
    among = [i for i, (_, _, chosen) in enumerate(rows) if chosen]
    expected: dict[int, int] = {}
    for i in among:
        image = rows[i][0]
        if image not in expected or rows[i][1] > rows[expected[image]][1]:
            expected[image] = i
    found = _best_of_each(torch.tensor(among, dtype=torch.long), index, value)
    assert sorted(found.tolist()) == sorted(expected.values())
