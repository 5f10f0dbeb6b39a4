"""What several processes must survive together."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from eval.progress import Ticker
from launch.selftest.distributed import SCENARIOS, count_of, distributed
from launch.selftest.stage import Stage, apart, curve
from launch.selftest.start import Starter


def test_curves_are_apart_by_their_largest_relative_difference() -> None:
    assert apart([1.0, 2.0], [1.0, 2.0]) == 0 and apart([1.0, 2.0], [1.0, 2.1]) == pytest.approx(0.05)
    assert apart([1.0], [1.0, 2.0]) == apart([], []) == float("inf")


def test_a_curve_is_that_of_the_table(tmp_path: Path) -> None:
    assert curve(tmp_path) == {}
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["step", "train/loss"], [0, ""], [1, 0.5], [2, 0.25]])
    assert curve(tmp_path) == {1: 0.5, 2: 0.25}


def test_what_is_quick_leaves_out_what_starts_anew() -> None:
    assert count_of(quick=False) == len(SCENARIOS) == count_of(quick=True) + 2


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1800)
def test_all_that_is_quick_holds_here(tmp_path: Path) -> None:
    with Starter(forked=True) as starter:
        checks = distributed(Stage(starter, tmp_path, quick=True), Ticker.silent())
    assert not [check for check in checks if not check.passed]
    assert len(checks) == 7 and all(check.seconds for check in checks)
