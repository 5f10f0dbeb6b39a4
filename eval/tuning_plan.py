"""How much a tuning will do at most, counted before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from configs.families import DEFENSES
from configs.faults import probe_offer
from configs.load import check_config, plain
from configs.schema import TuneConfig
from configs.tuning import Candidate, Grid, evaluation_of
from eval.cells import fits
from eval.plan import PlannedAttack, planned_attacks
from modules.attacks.auto import AutoAttack
from modules.attacks.base import Attack
from modules.defenses.routes import route
from modules.perturb.threat import Threat

Run = tuple[Attack, int]  # an attack, and the draws of noise that each of its gradients averages over
_NOBODY = torch.zeros(1, 10), torch.zeros(1, dtype=torch.int64)  # logits and label: more classes hardly matter


@dataclass(frozen=True)
class Work:
    """What a rung, or the report, does at most.

    Attributes:
        name: of the rung; ``report``.
        images: how many; None is all that there are.
        settings: that enter it.
        attacks: times views, over all settings and the undefended encoder.
        gradients: per image, through some defence.
        queries: per image, by attacks without gradients.
    """

    name: str
    images: int | None
    settings: int
    attacks: int
    gradients: int
    queries: int


def work_of(config: TuneConfig, grid: Grid) -> list[Work]:
    """The work of every rung and of the report, where each attack runs to its end on every image.

    Which settings a rung keeps is not known before: the dearest are counted.
    """
    found, left = [], list(grid.candidates)
    for rung, stage in [*config.rungs.items(), (None, config.report)]:
        evaluation = check_config("evaluate", evaluation_of(plain(config), rung, []))
        planned = list(planned_attacks(evaluation, Threat(config.threat.norm, config.threat.eps)).values())
        each = {candidate.name: _through(candidate, planned, config.eot_draws or 1) for candidate in left}
        runs = [(p.attack, 1) for p in planned] + [run for through in each.values() for run in through]
        found.append(
            Work(
                name=rung or "report",
                images=stage.limit,
                settings=len(left),
                attacks=len(runs),
                gradients=_gradients(runs),
                queries=sum(_queries(attack) for attack, draws in runs if draws),
            )
        )
        left.sort(key=lambda c, each=each: -_gradients(each[c.name]))
        left = left[: config.rungs[rung].keep] if rung else left
    return found


def _through(candidate: Candidate, planned: Sequence[PlannedAttack], draws: int) -> list[Run]:
    """The attacks on a setting, one for each view; those of the transfer view are made once, for all."""
    offer = probe_offer()
    defense = DEFENSES.build(candidate.node, **{key: offer.get(key) for key in DEFENSES.needs(candidate.node)})
    runs: list[Run] = []
    for view in defense.views():
        times = 0 if view.past else draws if route(view, defense).averaged else 1
        met = [p.attack for p in planned if view in p.views and fits(view, p.attack)]
        runs += [(attack, times) for attack in met]
    return runs


def _members(attack: Attack) -> list[Attack]:
    return list(attack.members().values()) if isinstance(attack, AutoAttack) else [attack]


def _gradients(runs: Sequence[Run]) -> int:
    """Gradients for one image, if it stands to the end."""
    return sum(
        draws * len(one.label_losses(*_NOBODY)) * int(getattr(one, "steps", 1)) * one.restarts
        for attack, draws in runs
        for one in _members(attack)
        if not one.gradient_free
    )


def _queries(attack: Attack) -> int:
    return sum(int(getattr(one, "queries", 0)) * one.restarts for one in _members(attack) if one.gradient_free)
