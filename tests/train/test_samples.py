"""What a training really read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from data.plan import sample_indices
from data.sample import digits
from train.finetune import finetune
from train.runs import Run
from train.samples import RecordSamples, read_samples, samples_file, samples_files

NOTHING: Any = None


def walk(folder: Path, rank: int, world: int, *, start: int, to: int) -> None:
    """Batches of two samples, one per step."""
    trainer: Any = SimpleNamespace(
        global_step=start, global_rank=rank, world_size=world, is_global_zero=rank == 0, accumulate_grad_batches=1
    )
    callback = RecordSamples(folder)
    callback.on_train_start(trainer, NOTHING)
    for step in range(start, to):
        trainer.global_step = step
        batch = SimpleNamespace(key=[f"{step}/{rank}/a", f'{step}/{rank}/"b",\n'])
        callback.on_train_batch_start(trainer, NOTHING, batch, step)
        callback.on_before_backward(trainer, NOTHING, torch.tensor(float(step)))
    callback.on_exception(trainer, NOTHING, KeyboardInterrupt())


def steps(folder: Path, rank: int) -> list[int]:
    return [int(row["step"]) for row in read_samples(samples_file(folder, rank))]


def test_a_line_per_sample_whatever_stands_in_its_key(tmp_path: Path) -> None:
    walk(tmp_path, 0, 1, start=0, to=2)
    found = read_samples(samples_file(tmp_path, 0))
    assert [row["key"] for row in found] == ["0/0/a", '0/0/"b",\n', "1/0/a", '1/0/"b",\n']
    assert [row["loss"] for row in found] == ["0.0", "0.0", "1.0", "1.0"] and steps(tmp_path, 0) == [1, 1, 2, 2]


def test_what_is_trained_anew_is_dropped_also_of_processes_that_are_no_more(tmp_path: Path) -> None:
    for rank in range(3):
        walk(tmp_path, rank, 3, start=0, to=4)
    with samples_file(tmp_path, 0).open("a") as file:
        file.write("5,cut o")
    walk(tmp_path, 1, 2, start=2, to=3)
    assert steps(tmp_path, 2) == [1, 1, 2, 2, 3, 3, 4, 4]  # only the first process cleans up after others
    walk(tmp_path, 0, 2, start=2, to=3)
    assert steps(tmp_path, 0) == steps(tmp_path, 1) == [1, 1, 2, 2, 3, 3] and steps(tmp_path, 2) == [1, 1, 2, 2]
    assert [path.name for path in samples_files(tmp_path)] == [f"samples-rank{rank}.csv" for rank in range(3)]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_it_is_what_the_plan_says(workers: int, run: Callable[..., Run]) -> None:
    opened = run("trainer.record_samples=true", f"data.workers={workers}")
    finetune(opened)
    source = digits("train")
    planned = [source.keys[i] for i in sample_indices(0, 0, 4 * 8, len(source))]
    assert [row["key"] for row in read_samples(samples_file(opened.folder, 0))] == planned
