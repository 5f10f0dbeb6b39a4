"""Cases that do the same work, timed in turn, so that a busy machine is busy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from eval.progress import Ticker


@dataclass(frozen=True)
class Timing:
    """Seconds of one case.

    Attributes:
        median: of all rounds.
        low: quickest.
        high: slowest.
    """

    median: float
    low: float
    high: float


def race(
    cases: Mapping[str, Callable[[], object]], *, rounds: int, title: str = "", quiet: bool = False
) -> dict[str, Timing]:
    """The timings of the cases: one warm-up each, then ``rounds`` times all of them in turn.

    Args:
        cases: the work, by name.
        rounds: repetitions.
        title: of the progress bar.
        quiet: show none.
    """
    taken: dict[str, list[float]] = {name: [] for name in cases}
    with Ticker(title or ", ".join(cases), (rounds + 1) * len(cases), quiet=quiet) as ticker:
        for number in range(rounds + 1):
            for name, work in cases.items():
                _wait()
                begin = time.perf_counter()
                work()
                _wait()
                if number:
                    taken[name].append(time.perf_counter() - begin)
                ticker.advance(1)
    return {name: Timing(statistics.median(times), min(times), max(times)) for name, times in taken.items()}


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products in a piece of work, counted and not timed."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
