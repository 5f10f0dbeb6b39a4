"""A run that is killed again and again; and faults in it that must be found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.progress import Ticker
from launch.selftest.check import Check
from launch.selftest.orphans import can_look
from launch.selftest.recipe import disturbed
from launch.selftest.resume import Resume, joined
from launch.selftest.start import Starter

pytestmark = pytest.mark.timeout(900)


def test_of_several_runs_the_worst_is_told() -> None:
    good, bad = Check("weights", True, "8 numbers"), Check("weights", False, "w differs")
    other = Check("end", False, "did not end")
    assert joined([[good], [good]], " (2 runs)") == [Check("weights", True, "8 numbers (2 runs)")]
    assert joined([[good], [bad], [other]], " (3 runs)") == [bad, other]


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter(forked=True) as found:
        yield found


def failing(starter: Starter, out: Path, planted: str) -> set[str]:
    """Names of the checks that do not hold after one kill of one process's run."""
    training = disturbed(None, [], steps=8, processes=1, strategy="auto")
    checks = Resume(training, starter, out, 1, planted).checks(1, 0, Ticker.silent())
    assert len(checks) >= 4
    return {check.name for check in checks if not check.passed}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("forgotten-draws", {"random numbers", "losses", "metrics.csv", "weights", "exported weights", "optimizer"}),
        ("lost-batch", {"samples", "losses", "metrics.csv", "weights", "exported weights", "optimizer"}),
        pytest.param(
            "orphan", {"no orphans", "goes on unaided"}, marks=pytest.mark.skipif(not can_look(), reason="/proc")
        ),
    ],
)
def test_a_planted_fault_is_found_and_nothing_else(
    planted: str, found: set[str], starter: Starter, tmp_path: Path
) -> None:
    seen = failing(starter, tmp_path, planted)
    assert seen - {"end"} == found  # a run that was given up did not end
