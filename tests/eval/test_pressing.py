"""Where attacks that only ask win, more questions are asked; elsewhere none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eval.harness import evaluate
from eval.outcomes import Cell, Outcomes
from eval.pressing import press_on, spread
from eval.rows import Subject
from modules.attacks.apgd import APGD
from modules.attacks.square import Square
from modules.defenses.base import Undefended
from tests.eval import gallery
from tests.eval.toy_world import THREAT, Reader, toy_plan


@pytest.mark.parametrize(("make", "pressed"), [(gallery.SignFlip, True), (Undefended, False)])
def test_ten_times_as_many_questions_are_asked_where_asking_won(make: type, pressed: bool, tmp_path: Path) -> None:
    encoder = Reader("whisper").freeze()
    attacks = {"apgd": APGD(THREAT, steps=10), "square": Square(THREAT, queries=20)}
    plan = toy_plan(encoder, make(encoder), "views=[adaptive,query]", "cascade=all", **attacks)
    few = plan.tasks[0]
    few.part = range(24)
    plan.attacks["square"] = replace(plan.attacks["square"], node={"name": "square", "queries": 20})
    for name, planned in plan.attacks.items():
        plan.attacks[name] = replace(planned, views=frozenset({"adaptive", "query"}))
    found = evaluate(encoder, plan, Subject("toy"), quiet=True)
    outcomes, rows = found.outcomes["toy"], found.rows["toy"]
    before = sum(outcomes.robust(rows.attacks(outcomes, "planted")))
    notes = press_on(encoder, plan, Subject("toy"), "planted", outcomes, rows, state=tmp_path, quiet=True)
    names = {cell.attack for cell in rows.attacks(outcomes, "planted")}
    if not pressed:
        assert notes == [] and names == {"apgd", "square"}
        return
    assert 0 < before < 24, "the case does not show what it should"
    assert names == {"apgd", "square", "square_long", "rays_long"}
    assert f"{before} images left" in notes[0]["text"]
    after = sum(outcomes.robust(rows.attacks(outcomes, "planted")))
    assert after < before and {len(f) for draws in outcomes.draws.values() for f in draws} == {24}
    assert len(rows.of(outcomes)) > 0 and any(tmp_path.iterdir())


def test_an_image_that_fell_in_one_draw_is_not_counted_as_fallen_in_the_others() -> None:
    clean, hit, more = Cell("a"), Cell("a", "apgd", "eot", 0.1), Cell("a", "square_long", "query", 0.1)
    flags = {clean: [[True, True], [True, True]], hit: [[False, True], [True, True]]}
    outcomes = Outcomes(["x", "y"], flags, dict.fromkeys(flags, 0.0))
    before = outcomes.per_draw([hit])
    found = Outcomes(["y"], {more: [[True], [True]]}, {more: 1.0})
    spread(outcomes, more, found, [1], outcomes.per_draw([hit], rechecks=()))
    assert outcomes.per_draw([hit, more]) == before
