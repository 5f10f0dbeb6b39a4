"""The lines that a training writes of itself."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.stubs import NOTHING, FakeTrainer, walk
from train.metrics import MetricsTable


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_first_the_last_and_every_so_many_steps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    walk(MetricsTable(path, every=4), FakeTrainer(10))
    assert [line["step"] for line in lines(path)] == ["1", "4", "8", "10"]
    assert lines(path)[1] == {"step": "4", "train/loss": "3.0", "lr": "0.25"}


@pytest.mark.parametrize("killed", [5, 6, 9])
def test_the_table_of_a_run_that_went_on_is_that_of_one_that_never_stopped(killed: int, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    walk(MetricsTable(whole, every=2), FakeTrainer(10), accumulate=2)
    walk(MetricsTable(parts, every=2), FakeTrainer(10), accumulate=2, to=killed)
    walk(MetricsTable(parts, every=2), FakeTrainer(10), start=4, accumulate=2)
    assert parts.read_text() == whole.read_text()


def test_a_fresh_run_drops_what_an_older_one_left(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,lr\n900,1.0,1.0\n")
    walk(MetricsTable(path, every=4), FakeTrainer(4))
    assert [line["step"] for line in lines(path)] == ["1", "4"]


def test_a_metric_that_comes_later_gets_a_column_and_blanks_before(tmp_path: Path) -> None:
    path, trainer = tmp_path / "metrics.csv", FakeTrainer(4)
    table: Any = MetricsTable(path, every=1)
    walk(table, trainer, to=1)
    trainer.global_step, trainer.callback_metrics = 2, {"train/loss": torch.tensor(1.0), "val/loss": torch.tensor(7.0)}
    table.on_train_batch_end(trainer, NOTHING, NOTHING, NOTHING, 1)
    assert [line["val/loss"] for line in lines(path)] == ["", "7.0"]


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    walk(MetricsTable(tmp_path / "metrics.csv", every=1), FakeTrainer(4, zero=False))
    assert list(tmp_path.iterdir()) == []
