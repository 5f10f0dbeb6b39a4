"""How the tests themselves are run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

from tests.waiting import CEILING

ROOT = Path(__file__).parents[1]


def test_where_assertions_are_taken_away_nothing_is_run() -> None:
    command = [sys.executable, "-O", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_style.py"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CEILING)
    assert ended.returncode == 4 and ended.stderr.strip().startswith("ERROR: these tests are assertions")
    assert len(ended.stderr.strip().splitlines()) == 1


def test_an_example_may_take_as_long_as_a_busy_machine_needs() -> None:
    assert settings().deadline is None and HealthCheck.too_slow in settings().suppress_health_check
