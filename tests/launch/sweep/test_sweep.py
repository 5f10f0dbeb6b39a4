"""A sweep as a person meets it: killed, failed, started again."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.comparison import compare_runs

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
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=500)


def child_of(pid: int) -> int | None:
    """A process that works for another one, found where Linux lists them."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        if found := task.read_text().split():
            return int(found[0])
    return None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for children in /proc")
def test_a_killed_run_is_told_and_the_same_command_finishes_it_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text(JUDGE)
    out = tmp_path / "s"
    words = ["fare_tiny_eps4", "seed=0,1", *SMALL, f"evaluation={{recipe: {tmp_path / 'judge.yaml'}}}"]
    words += ["--out", str(out)]
    with subprocess.Popen(command(*words), stdout=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 300
        while not list((out / "seed=0" / "checkpoints").glob("step=*.ckpt")) and time.monotonic() < limit:
            time.sleep(0.05)
        child = child_of(process.pid)
        assert child is not None
        os.kill(child, signal.SIGKILL)
        shown, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    assert "not finished: seed=0: finetune was ended by SIGKILL" in shown and "[2/2] seed=1 done" in shown
    first = (out / "seed=1" / "export" / "encoder.safetensors").stat().st_mtime_ns
    again = sweep(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of 2 runs are done" in again.stdout
    assert (out / "seed=1" / "export" / "encoder.safetensors").stat().st_mtime_ns == first
    (versus,) = compare_runs(out / "seed=1" / "judged", out / "seed=0" / "judged")
    with (out / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done", "done"]
    assert float(rows[1]["mcnemar_p"]) == versus.worst.test.p and float(rows[1]["worst"]) == versus.worst.first


@pytest.mark.slow
def test_a_failing_run_does_not_keep_others_from_finishing(tmp_path: Path) -> None:
    words = ["fare_tiny_eps4", f"data=digits,{tmp_path / 'nowhere.tar'}", *SMALL, "evaluation=null"]
    ended = sweep(*words, "--jobs", "2", "--out", str(tmp_path / "s"))
    assert ended.returncode == 1
    assert "data=digits done" in ended.stdout and "no file" in ended.stdout
    assert not (tmp_path / "s" / "done").exists()
