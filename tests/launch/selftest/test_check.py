"""A claim, its verdict, and where it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.selftest.check import Check, judged, show, stopwatch, write_checks

GOOD, BAD = Check("a [claim]", True, "two [numbers]", 1.25), Check("another", False, "one number")


def test_a_check_holds_where_no_fault_was_found_and_tells_the_first_ones() -> None:
    assert judged("x", [], "all") == Check("x", True, "all")
    found = judged("x", ["a", "b", "c", "d", "e"], "all", 2.0)
    assert found == Check("x", False, "a; b; c; and 2 more", 2.0)


@pytest.mark.parametrize(("checks", "passed"), [([GOOD], True), ([GOOD, BAD], False), ([], False)])
def test_all_hold_where_each_does_and_there_is_one(
    checks: list[Check], passed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show("a test", checks) is passed
    told = capsys.readouterr().out
    assert ("FAIL" in told) is (BAD in checks) and ("a [claim]" in told) is bool(checks)
    written = json.loads(write_checks(tmp_path, checks, {"seed": 3}).read_text())
    assert written["passed"] is passed and written["seed"] == 3
    assert [check["name"] for check in written["checks"]] == [check.name for check in checks]


def test_a_stopwatch_holds_the_seconds_after_an_error_too() -> None:
    with pytest.raises(KeyError), stopwatch() as taken:
        raise KeyError
    assert len(taken) == 1 and taken[0] >= 0
