"""Processes that outlive the run which they belong to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from launch.selftest.orphans import MARK, can_look, marked, wait_until_gone
from tests.waiting import CEILING

SLEEPS = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(0.3)"]
STARTS = """
import subprocess
subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL)
print("started", flush=True)
"""
pytestmark = pytest.mark.skipif(not can_look(), reason="this system has no /proc")


def started(value: str, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env={**os.environ, MARK: value}, stdout=subprocess.PIPE, text=True)


def test_a_process_that_outlives_its_parent_is_found_and_one_that_ended_is_not() -> None:
    value = f"orphan-{os.getpid()}"
    parent = started(value, sys.executable, "-c", STARTS)
    assert parent.communicate(timeout=CEILING)[0] == "started\n"
    left, waited = wait_until_gone(value, (), 0.2)
    (number,) = left
    try:
        assert left[number] == "sleep 600" and waited >= 0.2
        assert wait_until_gone(value, [number], 0.2)[0] == {}  # one that is meant to be there
        assert not marked(value + "x")
    finally:
        os.kill(number, signal.SIGKILL)
    assert wait_until_gone(value, (), CEILING)[0] == {}


def test_one_that_goes_in_time_is_none_and_nobody_need_collect_it() -> None:
    value = f"late-{os.getpid()}"
    process = started(value, *SLEEPS)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    left, waited = wait_until_gone(value, (), CEILING)
    assert left == {} and 0 < waited < CEILING
    process.communicate()
