"""Cases that do the same work, timed in turn, so that a busy machine is busy for all of them."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch

from eval.progress import Ticker
from eval.speed import Timing


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


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes of tensors that a piece of work holds at a time, over those that were there before it.

    On a CPU every allocation is looked at, so that what the process keeps for later does not blur the number.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    seen = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
    with _silent():
        seen.start()
    try:
        work()
    finally:
        with _silent():
            seen.stop()
    results: Any = seen.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    steps = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max([0, *accumulate(steps)])


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on standard error, not from compiled code either: the profiler tells it when it starts and ends."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
