"""Where attacks that only ask win, they get more questions before a headline is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.families import ATTACKS
from configs.load import config_hash
from data.source import SelectedImages
from eval.checks.numbers import query_doubts
from eval.harness import evaluate
from eval.outcomes import Cell, Outcomes
from eval.plan import Plan, PlannedAttack
from eval.rows import Rows, Subject
from eval.tasks.classification import ClassificationTask
from modules.encoders.base import ImageEncoder
from modules.views import View

MORE: Mapping[str, Mapping[str, Any]] = {
    "square_long": {"name": "square", "queries": 10},  # times those of the plan's
    "rays_long": {"name": "rays", "queries": 10},
}
FEWEST = 300  # queries that a plan without Square is taken to have


def press_on(
    encoder: ImageEncoder,
    plan: Plan,
    subject: Subject,
    name: str,
    outcomes: Outcomes,
    rows: Rows,
    *,
    state: Path | None,
    quiet: bool,
) -> list[dict[str, str]]:
    """Ask ten times as often about what stands, where asking felled what no gradient did; ``outcomes`` grow.

    Args:
        encoder: frozen.
        plan: of the whole evaluation, of one data set.
        subject: how the encoder is called.
        name: of the defense.
        outcomes: of all images; take the further attacks.
        rows: who writes their rows.
        state: folder for finished work.
        quiet: show no progress.

    Returns:
        what the report says of it; nothing where there was no need.
    """
    cells = rows.attacks(outcomes, name)
    standing = [i for i, stands in enumerate(outcomes.robust(cells)) if stands] if cells else []
    if not standing or not query_doubts(outcomes, cells):
        return []
    asked = [planned.node for planned in plan.attacks.values() if "queries" in planned.node]
    usual = max([FEWEST, *(int(node["queries"]) for node in asked)])
    attacks = {}
    for attack, settings in MORE.items():
        node = {**settings, "queries": usual * settings["queries"]}
        attacks[attack] = PlannedAttack(ATTACKS.build(node, threat=plan.threat), node, frozenset({View.query}))
    task = ClassificationTask.of(plan.tasks[0])
    few = replace(task, source=SelectedImages(task.source, [task.part[i] for i in standing]))
    config = replace(
        plan.config, defenses={name: plan.config.defenses[name]}, views=[View.query.value], stop_width=0.0, examples=0
    )
    said = config_hash([plan.hash, name, usual, standing])
    longer = replace(plan, config=config, tasks=[few], attacks=attacks, hash=said)
    found = evaluate(encoder, longer, subject, state=state, quiet=quiet).outcomes[few.dataset]
    earlier = outcomes.per_draw(cells, rechecks=())
    for attack in attacks:
        cell = Cell(name, attack, View.query.value, plan.threat.eps)
        spread(outcomes, cell, found, standing, earlier)
    fallen = len(standing) - sum(outcomes.robust(rows.attacks(outcomes, name)))
    text = (
        f"Attacks that only ask felled images that no gradient felled, so Square and RayS asked {10 * usual} times "
        f"about each of the {len(standing)} images left: {fallen} more fell."
    )
    return [{"title": "More questions were asked", "text": text}]


def spread(
    outcomes: Outcomes, cell: Cell, found: Outcomes, standing: Sequence[int], earlier: Sequence[Sequence[bool]]
) -> None:
    """Write a cell that was found on a few images into the outcomes of all.

    Args:
        outcomes: of all images; take the cell.
        cell: which.
        found: of the few.
        standing: their places among all, in order.
        earlier: for each draw one flag per image, what the attacks before had left; it holds for all the others.
    """
    place = {image: row for row, image in enumerate(standing)}

    def whole(draws: list[list[bool]]) -> list[list[bool]]:
        return [
            [flags[place[i]] if i in place else left[i] for i in range(len(outcomes.keys))]
            for flags, left in zip(draws, earlier, strict=True)
        ]

    outcomes.draws[cell] = whole(found.draws[cell])
    outcomes.seconds[cell], outcomes.notes[cell] = found.seconds[cell], found.notes.get(cell, [])
    if cell in found.rechecks:
        outcomes.rechecks[cell] = {name: whole(draws) for name, draws in found.rechecks[cell].items()}
