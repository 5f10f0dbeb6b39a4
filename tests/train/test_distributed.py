"""Two processes train what one would have trained."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from eval.results import read_results
from modules.encoders.tiny import load_tiny
from tests.waiting import CEILING
from train.finetune import finetune
from train.runs import Run

ROOT = Path(__file__).parents[2]
# Adam divides by a gradient's own size: where that is rounding alone, as for attention's key biases, only a large eps
# keeps two orders of summation together.
SETTINGS = ("optimizer.max_steps=2", "trainer.accumulate=2", "optimizer.eps=1.0")
TWO = ("trainer.devices=2", "trainer.strategy=ddp")


def robustclip(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, from a file: Lightning starts the second process by the first one's path."""
    script = folder / "robustclip.py"
    script.write_text("from launch.cli import main\n\nif __name__ == '__main__':\n    main()\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=CEILING)


def overrides(*changed: str) -> list[str]:
    from tests.train.conftest import SMALL

    return [*SMALL, "attack.steps=2", *SETTINGS, *changed]


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(run: Callable[..., Run], evaluation: str, tmp_path: Path) -> None:
    """The global batch is the same, and so is every picture's perturbation; only sums are rounded elsewhere."""
    alone = finetune(run(*SETTINGS))
    told = overrides(*TWO, evaluation)
    ended = robustclip(tmp_path, "finetune", "fare_tiny_eps4", *told, "--out", str(tmp_path / "two"))
    assert ended.returncode == 0, ended.stderr
    one, two = load_file(alone), load_file(tmp_path / "two" / "export" / "encoder.safetensors")
    assert largest_difference(one, two) < 1e-5
    assert largest_difference(one, dict(load_tiny().image.visual.state_dict())) > 1e-4
    rows = (tmp_path / "two" / "results.jsonl").read_text().splitlines()
    assert len(rows) == 8  # one checkpoint, judged by both processes together, written by the first
    assert len(list((tmp_path / "two" / "state").glob("*/digits-0000[01].json"))) == 2
    assert len((tmp_path / "two" / "metrics.csv").read_text().splitlines()) == 3
    assert (tmp_path / "two" / "done").is_file()


@pytest.mark.distributed
@pytest.mark.slow
def test_an_evaluation_that_two_processes_share_leaves_their_training_alone(evaluation: str, tmp_path: Path) -> None:
    told = overrides(*TWO, "trainer.checkpoint_every=1")
    for name, judged in (("on", evaluation), ("off", "evaluation=null")):
        ended = robustclip(tmp_path, "finetune", "fare_tiny_eps4", *told, judged, "--out", str(tmp_path / name))
        assert ended.returncode == 0, ended.stderr
    on, off = (load_file(tmp_path / name / "export" / "encoder.safetensors") for name in ("on", "off"))
    assert largest_difference(on, off) == 0
    steps = {row.step for row in read_results(tmp_path / "on" / "results.jsonl")}
    assert steps == {1, 2} and not (tmp_path / "off" / "results.jsonl").exists()


@pytest.mark.distributed
@pytest.mark.slow
def test_a_run_may_go_on_in_a_default_folder_that_both_processes_find(tmp_path: Path) -> None:
    told = overrides(*TWO, "evaluation=null")
    ended = robustclip(tmp_path, "finetune", "fare_tiny_eps4", *told)
    assert ended.returncode == 0, ended.stderr
    (folder,) = (tmp_path / "runs" / "fare_tiny_eps4").iterdir()
    assert (folder / "export" / "encoder.safetensors").is_file()


@pytest.mark.distributed
@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused_in_a_line(tmp_path: Path) -> None:
    told = overrides(*TWO, "evaluation=null", "data.batch_size=7")
    ended = robustclip(tmp_path, "finetune", "fare_tiny_eps4", *told, "--out", str(tmp_path / "run"))
    assert ended.returncode == 2, ended.stderr
    assert "batch size of 7 cannot be shared equally by 2 processes; choose a multiple of 2" in ended.stderr
