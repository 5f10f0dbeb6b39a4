"""Processes that end with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import wait_until

CHILD = "import signal, time; {}print('ready', flush=True); time.sleep(600)"
TIED = "from data.parent import end_with_parent; end_with_parent(signal.SIGTERM); "
LATE = "from data.parent import end_with_parent; end_with_parent(signal.SIGTERM, {}); print('there')"
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid)
child.wait()
"""


def gone(number: int) -> bool:
    stat = Path(f"/proc/{number}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
@pytest.mark.parametrize(("tied", "stays"), [(TIED, False), ("", True)])
def test_a_child_goes_with_its_parent_only_where_it_asked_for_it(tied: str, stays: bool) -> None:
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-u", "-c", PARENT, CHILD.format(tied)]
    parent = subprocess.Popen(command, env={**os.environ, **root}, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
    (child,) = (int(word) for word in said - {"ready"})
    parent.kill()
    parent.wait()
    parent.stdout.close()
    if not stays:
        wait_until(lambda: gone(child))
        return
    time.sleep(0.3)
    assert not gone(child)
    os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
@pytest.mark.parametrize(("other", "code"), [(0, 0), (1, -signal.SIGTERM)])
def test_a_parent_that_ended_before_anybody_asked_is_noticed(other: int, code: int) -> None:
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", "import signal; " + LATE.format(os.getpid() + other)]
    ended = subprocess.run(command, env={**os.environ, **root}, capture_output=True, text=True)
    assert ended.returncode == code and ("there" in ended.stdout) is (code == 0)
