"""Has the headline converged?  The same evaluation with one attack, ever stronger."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.families import ATTACKS
from configs.load import config_hash
from configs.schema import StrengthConfig
from eval.card import Curve, Over, Share
from eval.harness import evaluate
from eval.metrics import wilson
from eval.outcomes import Outcomes
from eval.plan import Plan, PlannedAttack
from eval.rows import Subject
from modules.defenses.base import View
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat

ATTACK = "strength"
NEIGHBORS = 128  # images among which the nearest one of another class is looked for


def varied(plan: Plan, name: str, view: View, node: Mapping[str, Any], *, eps: float, draws: int, limit: int) -> Plan:
    """The plan with one attack through one view of one defence, on the first ``limit`` images.

    Args:
        plan: of the whole.
        name: of the defence.
        view: whose gradient is followed.
        node: the attack.
        eps: radius.
        draws: of the noise behind every loss.
        limit: images.
    """
    threat = Threat(plan.threat.norm, eps)
    config = replace(
        plan.config,
        defenses={name: plan.config.defenses[name]},
        views=[view.value],
        eot_draws=draws,
        stop_width=0.0,
        cascade="none",
        examples=0,
    )
    tasks = []
    for task in plan.tasks:
        few = copy.copy(task)
        few.part = range(min(limit, len(task)))
        tasks.append(few)
    attack = PlannedAttack(ATTACKS.build(node, threat=threat), node, frozenset({view}))
    said = config_hash([plan.hash, name, view.value, dict(node), eps, draws, limit])
    return replace(plan, config=config, threat=threat, tasks=tasks, attacks={ATTACK: attack}, hash=said)


def curves(
    encoder: ImageEncoder,
    plan: Plan,
    subject: Subject,
    name: str,
    view: View,
    strength: StrengthConfig,
    *,
    state: Path | None,
    quiet: bool,
) -> list[Curve]:
    """The curves of a defence through one view; those with a single point are left out.

    Args:
        encoder: frozen.
        plan: of the whole evaluation, of one data set.
        subject: how the encoder is called.
        name: of the defence.
        view: whose gradient is followed.
        strength: what to vary.
        state: folder for finished work.
        quiet: show no progress.
    """
    random = plan.defend(name, encoder, plan.tasks[0]).random
    end = whole_ball(plan) if strength.whole and strength.eps else None
    found = []
    for over, values in _grids(strength, plan.threat.eps, random, end):
        points = []
        for value in values:
            node, eps, draws = _setting(strength, plan, over, value)
            variant = varied(plan, name, view, node, eps=eps, draws=draws, limit=strength.limit)
            folder = state / f"{over}={value:.6g}" if state else None
            outcomes = evaluate(encoder, variant, subject, state=folder, quiet=quiet).outcomes[plan.tasks[0].dataset]
            points.append((float(value), _share(outcomes, variant, name)))
        whole = over == "eps" and end is not None and values[-1] >= end
        found.append(Curve(over, str(strength.attack["name"]), view.value, points, whole))
    return found


def whole_ball(plan: Plan) -> float | None:
    """A radius at which any image can become one of another class; None where all images are of one.

    Under linf every image can become uniformly grey at 0.5; under l2 and l1 it is the largest distance to the nearest
    image of another class.
    """
    if plan.threat.norm == "linf":
        return 0.5
    batch = next(plan.tasks[0].whole_batches(NEIGHBORS))
    away = [
        plan.threat.distance(x.expand_as(batch.x), batch.x)[batch.y != y] for x, y in zip(batch.x, batch.y, strict=True)
    ]
    return max(float(distances.min()) for distances in away) if all(map(len, away)) else None


def _grids(strength: StrengthConfig, eps: float, random: bool, end: float | None) -> Iterator[tuple[Over, list[float]]]:
    radii = [factor * eps for factor in strength.eps]
    grids: dict[Over, list[float]] = {
        "eps": radii if end is None else [*(radius for radius in radii if radius < end), end],
        "steps": list(map(float, strength.steps)),
        "restarts": list(map(float, strength.restarts)),
        "draws": list(map(float, strength.draws)) if random else [],
    }
    for over, values in grids.items():
        if len(set(values)) > 1:
            yield over, sorted(set(values))


def _setting(strength: StrengthConfig, plan: Plan, over: Over, value: float) -> tuple[dict[str, Any], float, int]:
    """The attack, the radius and the draws at one point of a curve."""
    node, eps, draws = dict(strength.attack), plan.threat.eps, plan.config.eot_draws
    if over == "eps":
        eps = value
    elif over == "draws":
        draws = int(value)
    else:
        node[over] = int(value)
    return node, eps, draws


def _share(outcomes: Outcomes, plan: Plan, name: str) -> Share:
    """Accuracy after the attack, averaged over draws: what one point of a curve is compared by."""
    cells = [cell for cell in outcomes.draws if cell.defense == name]
    per_draw = outcomes.per_draw(cells)
    n = len(outcomes.keys)
    right = sum(map(sum, per_draw)) / len(per_draw)
    return Share(right / n, *wilson(right, n), n)
