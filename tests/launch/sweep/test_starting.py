"""Runs at a time share a machine; processes end with their sweep."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.sweep import children
from launch.sweep.planning import Stage
from launch.sweep.progress import duration, time_left
from launch.sweep.starting import Launch, devices_of, job_of
from tests.data.holder import holder


@pytest.mark.parametrize(
    ("slot", "jobs", "said", "count", "devices"),
    [
        (0, 1, "", 8, None),
        (0, 2, "", 8, "0,1,2,3"),
        (1, 2, "", 8, "4,5,6,7"),
        (2, 4, "", 2, "0"),
        (3, 4, "", 2, "1"),
        (1, 2, "6,7", 8, "7"),
        (1, 2, "", 0, None),
    ],
)
def test_runs_at_a_time_take_a_share_of_the_gpus_each(
    slot: int, jobs: int, said: str, count: int, devices: str | None
) -> None:
    told = devices_of(slot, jobs, {"CUDA_VISIBLE_DEVICES": said} if said else {}, count)
    assert told.get("CUDA_VISIBLE_DEVICES") == devices
    assert ("OMP_NUM_THREADS" in told) == (jobs > 1)


def test_options_stay_at_the_end_of_a_command() -> None:
    job = job_of(Stage("scorecard", ("tiny", "seed=1", "--budget", "quick"), Path("o")), "seed=1", Launch())
    assert job.command[1:] == ["scorecard", "tiny", "seed=1", "--budget", "quick", "--out", "o"]
    assert job.processes == 1 and job.name == "seed=1"


def test_a_sweep_is_started_once_at_a_time(tmp_path: Path) -> None:
    with holder(tmp_path), pytest.raises(ValueError, match="in use by process"), children.alone(tmp_path):
        pass
    with children.alone(tmp_path):
        pass


def test_a_child_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from launch.sweep.children import start, alone\n"
        "with alone(Path(sys.argv[1])) as lock:\n"
        " child = start(['sleep', '600'], Path(sys.argv[1]) / 'log', {}, lock); print(child.pid, flush=True)\n"
        " time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert int(parent.stdout.readline())  # and at once, for the child may only be about to become the command
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    with children.alone(tmp_path):  # free once the child, which holds it too, is gone
        pass


def test_the_line_that_is_told_of_a_failure_is_ours(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("loading\nrobustclip: no data at x\nleaked resource\n\n")
    assert children.last_line(log) == "no data at x"
    assert children.last_line(tmp_path / "none") == ""


def test_time_is_told_in_words() -> None:
    assert [duration(s) for s in (41, 720, 7200, 200_000)] == ["41 s", "12 min", "2.0 h", "2.3 days"]
    assert time_left([60, 120], 3, 2) == ", about 3 min left"
    assert time_left([], 3, 2) == time_left([1], 0, 1) == ""
