"""Evaluate traps by the scorecard, and compare with what the hand-written attacks leave."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from eval.score import score
from eval.traps.catalog import TRAPS
from eval.traps.record import Row
from eval.traps.truth import true_accuracy

BUDGET = "quick"
SETTINGS = ("stop_width=0", "fewer=0")  # of every trap: no image is left out


def evaluate_traps(names: Sequence[str], *, processes: int = 1) -> Iterator[Row]:
    """The row of each trap, in the order of the names.

    Args:
        names: of traps.
        processes: that share the work.
    """
    if processes == 1:
        yield from map(evaluate_trap, names)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(evaluate_trap, names)


def _one_thread() -> None:
    torch.set_num_threads(1)


def evaluate_trap(name: str) -> Row:
    """The row of a trap: a scorecard of a fresh victim, and the hand-written attack on other fresh ones."""
    trap = TRAPS[name]
    case = trap.build()
    x, y = case.world.test()
    model = case.model()
    begin = time.process_time()
    card = score(model, x, y, threat=case.threat, defense=case.defense, budget=BUDGET, settings=SETTINGS)
    seconds = time.process_time() - begin
    red, amber = ([d.name for d in card.doubts if d.severity == severity] for severity in ("red", "amber"))
    return Row(
        name=name,
        kind=trap.kind,
        broken=trap.broken,
        text=trap.text,
        threat=_in_words(case.threat.norm, case.threat.eps),
        clean=card.clean.value,
        claimed=card.headline.value,
        truth=true_accuracy(case),
        red=red,
        amber=amber,
        seconds=round(seconds, 2),
    )


def _in_words(norm: str, eps: float) -> str:
    """``linf 4/255``, ``l2 0.25``."""
    return f"{norm} {255 * eps:.3g}/255" if norm == "linf" else f"{norm} {eps:.3g}"
