"""Weights before every step of two processes, one of which met a number that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.selftest.breaking import weight_faults
from launch.selftest.planted import WEIGHTS

GOOD = ["0,a", "1,b", "2,c", "3,d", "4,d", "5,e"]  # the step after number 3 moved nothing


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (GOOD, GOOD, []),
        (GOOD, [*GOOD[:5], "5,f"], ["before step 6 the weights differ"]),
        (GOOD, GOOD[:5], ["one process took 6 steps and the other 5"]),
        ([*GOOD[:4], "4,x", "5,e"], [*GOOD[:4], "4,x", "5,e"], ["step 4 moved the weights"]),
        ([*GOOD[:1], "1,a", *GOOD[2:]], [*GOOD[:1], "1,a", *GOOD[2:]], ["step 1 did not move the weights"]),
    ],
)
def test_unequal_weights_and_steps_that_were_not_left_out_are_found(
    one: list[str], other: list[str], told: list[str], tmp_path: Path
) -> None:
    for rank, lines in enumerate((one, other)):
        (tmp_path / WEIGHTS.format(rank)).write_text("\n".join(lines) + "\n")
    assert weight_faults(tmp_path) == told
