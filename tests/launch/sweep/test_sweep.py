"""A sweep as a person meets it: killed, failed, started again."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.comparison import compare_runs
from tests.waiting import CEILING, wait_until

SMALL = [
    *("steps=4", "optimizer.warmup_steps=1", "batch=8", "attack.steps=1", "trainer.checkpoint_every=1"),
    *("trainer.accelerator=cpu", "trainer.devices=1"),
]
JUDGE = """
model: {name: tiny}
threat: {norm: linf, eps: "${px:4}"}
tasks: {digits: {shards: digits, limit: 8}}
defenses: {none: {}}
attacks: {pgd: {steps: 2, step_size: "${px:1}"}}
views: [adaptive]
examples: 0
device: cpu
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from launch.cli import main; main()", "sweep", *words]


def sweep(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=CEILING)


def child_of(pid: int) -> int:
    """A process that works for another one, found where Linux lists them."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        if found := task.read_text().split():
            return int(found[0])
    raise AssertionError("no process works for the sweep")


def at_work(process: subprocess.Popen[str], run: Path) -> None:
    """Wait until a run has a checkpoint."""

    def begun() -> bool:
        assert process.poll() is None, f"{run.name} was not begun"
        return bool(list((run / "checkpoints").glob("step=*.ckpt")))

    wait_until(begun)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for children in /proc")
def test_two_by_two_runs_killed_twice_end_as_one_table_and_what_was_done_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text(JUDGE)
    out = tmp_path / "s"
    words = ["fare_tiny_eps4", "eps=2,4", "objective.name=fare,tecoa", *SMALL]
    words += [f"evaluation={{recipe: {tmp_path / 'judge.yaml'}}}", "--out", str(out)]
    names = [f"eps={eps},objective={name}" for eps in (2, 4) for name in ("fare", "tecoa")]
    with subprocess.Popen(command(*words), stdout=subprocess.PIPE, text=True) as process:
        at_work(process, out / names[1])
        os.kill(child_of(process.pid), signal.SIGKILL)  # one run, and the sweep goes on
        at_work(process, out / names[2])
        process.kill()  # the sweep itself
        said, _ = process.communicate(timeout=CEILING)
    assert f"[1/4] {names[0]} done" in said
    assert f"[2/4] {names[1]} not finished: finetune was ended by SIGKILL; the same command goes on" in said
    first = (out / names[0] / "export" / "encoder.safetensors").stat().st_mtime_ns
    again = sweep(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of 4 runs are done" in again.stdout and (out / "done").is_file()
    assert (out / names[0] / "export" / "encoder.safetensors").stat().st_mtime_ns == first
    with (out / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == names and {row["state"] for row in rows} == {"done"}
    for name, row in zip(names[1:], rows[1:], strict=True):
        (versus,) = compare_runs(out / name / "judged", out / names[0] / "judged")
        assert float(row["mcnemar_p"]) == versus.worst.test.p and float(row["worst"]) == versus.worst.first
        assert 0 <= float(row["worst_low"]) <= float(row["worst"]) <= float(row["worst_high"]) <= 1
    page = (out / "index.html").read_text()
    assert all(name in page for name in names) and "4 of 4" not in page and "all 4 runs are finished" in page


@pytest.mark.slow
def test_a_failing_run_does_not_keep_others_from_finishing(tmp_path: Path) -> None:
    words = ["fare_tiny_eps4", f"data=digits,{tmp_path / 'nowhere.tar'}", *SMALL, "evaluation=null"]
    ended = sweep(*words, "--jobs", "2", "--out", str(tmp_path / "s"))
    assert ended.returncode == 1
    assert "data=digits done" in ended.stdout and "no file" in ended.stdout
    assert not (tmp_path / "s" / "done").exists()
