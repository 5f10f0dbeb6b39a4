"""What several processes must survive together, scenario by scenario."""

from __future__ import annotations

from collections.abc import Callable

from eval.progress import Ticker
from launch.selftest.breaking import broken_batch
from launch.selftest.check import Check
from launch.selftest.losing import lost_process, lost_starter, two_nodes
from launch.selftest.sharing import sharing
from launch.selftest.stage import Stage
from launch.selftest.uneven import uneven

SCENARIOS: dict[str, Callable[[Stage], list[Check]]] = {
    "sharing": sharing,  # first: others are compared with its undisturbed run
    "uneven": uneven,
    "lost": lost_process,
    "broken": broken_batch,
    "nodes": two_nodes,
    "met": lost_starter,
}
_SLOW = ("nodes", "met")  # they start processes anew, which a self-test in a hurry does not


def count_of(quick: bool) -> int:
    """How many scenarios there are."""
    return len(SCENARIOS) - quick * len(_SLOW)


def distributed(stage: Stage, ticker: Ticker) -> list[Check]:
    """The checks of all scenarios, or of those that are quick."""
    found: list[Check] = []
    for name, scenario in SCENARIOS.items():
        if stage.quick and name in _SLOW:
            continue
        found += scenario(stage)
        ticker.advance(1)
        if not found[0].passed:  # with nothing to compare with, the others would say the same
            break
    return found
