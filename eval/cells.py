"""Everything that is tried on a defence: its cells of the table."""

from __future__ import annotations

from collections.abc import Iterator

from eval.outcomes import Cell
from eval.plan import Plan
from eval.tasks.base import Task
from modules.attacks.base import Attack
from modules.defenses.base import Defense, Undefended, View

ORIGINAL = "original"  # a view of tasks: the encoder before its fine-tuning, which knows nothing of the judged one


def cells_of(plan: Plan, task: Task, name: str, defense: Defense) -> Iterator[Cell]:
    """Clean, then every attack through every view that says something about the defence, then its curve over eps.

    Args:
        plan: whose attacks and views are wanted.
        task: on whose pixels.
        name: of the defence.
        defense: itself.
    """
    eps, curve = plan.threat.eps, plan.config.curve
    yield Cell(name)
    for view in defense.views():
        if view is View.gate and task.images > 1:
            continue  # a gate looks at one image
        for attack, planned in plan.attacks.items():
            if not fits(view, planned.attack):
                continue
            wanted = planned.views if planned.attack.gradient_free else planned.views | _own(defense)
            if view in wanted:
                yield Cell(name, attack, view.value, eps)
    if task.transfer:
        gradient = [attack for attack, planned in plan.attacks.items() if not planned.attack.gradient_free]
        yield from (Cell(name, attack, ORIGINAL, eps) for attack in gradient)
    if name in curve.defenses:
        yield from (Cell(name, curve.attack, View.adaptive.value, radius) for radius in curve.eps if radius != eps)


def fits(view: View, attack: Attack) -> bool:
    """A gradient is of no use to who only asks, answers are of none to a control, and the other way round."""
    if attack.blind or view is View.control:
        return attack.blind and view is View.control
    return attack.gradient_free == view.gradient_free


def _own(defense: Defense) -> frozenset[View]:
    """Views that are taken whatever the recipe says: the bare encoder has no other."""
    return frozenset({View.adaptive}) if isinstance(defense, Undefended) else frozenset()
