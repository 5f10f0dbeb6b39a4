"""Checkpoints, the table of metrics and the progress bar, through whatever happens to a run."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from train.callbacks import MetricsTable, SaveCheckpoints, StepProgress

NOTHING: Any = None


class FakeTrainer:
    """A trainer whose steps somebody else counts."""

    def __init__(self, max_steps: int = 10, *, zero: bool = True) -> None:
        self.global_step, self.max_steps, self.is_global_zero = 0, max_steps, zero
        self.callback_metrics: dict[str, Any] = {}
        self.optimizers = [SimpleNamespace(param_groups=[{"lr": 0.25}])]
        self.saved: list[str] = []

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        assert weights_only is False  # the evaluation's hook is called for whole checkpoints only
        self.saved.append(path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def walk(callback: Any, trainer: Any, *, start: int = 0, accumulate: int = 1, to: int | None = None) -> None:
    """All batches of a training that goes on at ``start``."""
    trainer.global_step = start
    callback.on_train_start(trainer, NOTHING)
    for batch in range(start * accumulate, (to or trainer.max_steps) * accumulate):
        trainer.global_step = (batch + 1) // accumulate
        trainer.callback_metrics = {"train/loss": torch.tensor(float(batch))}
        callback.on_train_batch_end(trainer, NOTHING, NOTHING, NOTHING, batch)


def named(*steps: int) -> list[str]:
    return [f"step={step:06d}.ckpt" for step in steps]


def test_every_so_many_steps_and_after_the_last_one(tmp_path: Path) -> None:
    trainer = FakeTrainer(10)
    walk(SaveCheckpoints(tmp_path, every=4), trainer)
    assert trainer.saved == named(4, 8, 10)


def test_the_last_step_is_saved_once_where_it_is_due_anyway(tmp_path: Path) -> None:
    trainer = FakeTrainer(8)
    walk(SaveCheckpoints(tmp_path, every=4), trainer)
    assert trainer.saved == named(4, 8)


def test_accumulated_batches_do_not_count_twice(tmp_path: Path) -> None:
    trainer = FakeTrainer(4)
    walk(SaveCheckpoints(tmp_path, every=2), trainer, accumulate=3)
    assert trainer.saved == named(2, 4)


def test_a_run_that_goes_on_leaves_its_checkpoint_alone(tmp_path: Path) -> None:
    """The step stays while batches accumulate: a checkpoint written now would hold half a step."""
    trainer = FakeTrainer(4)
    walk(SaveCheckpoints(tmp_path, every=2), trainer, start=2, accumulate=3)
    assert trainer.saved == named(4)


@pytest.mark.parametrize(("keep", "left"), [(1, named(8)), (2, named(6, 8)), (-1, named(2, 4, 6, 8))])
def test_the_newest_ones_stay(keep: int, left: list[str], tmp_path: Path) -> None:
    walk(SaveCheckpoints(tmp_path, every=2, keep=keep), FakeTrainer(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_only_the_first_process_deletes(tmp_path: Path) -> None:
    walk(SaveCheckpoints(tmp_path, every=2, keep=1), FakeTrainer(8, zero=False))
    assert len(list(tmp_path.iterdir())) == 4


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


class Bar:
    """Stands in for a progress bar."""

    def __init__(self, title: str, total: int, *, quiet: bool) -> None:
        self.total, self.quiet, self.done, self.open = total, quiet, 0, False

    def __enter__(self) -> Bar:
        self.open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False

    def advance(self, units: int) -> None:
        self.done += units


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr("train.callbacks.Ticker", Bar)
    return StepProgress


def test_the_bar_counts_steps_and_starts_where_the_run_goes_on(progress: Any) -> None:
    callback, trainer = progress("train"), FakeTrainer(10)
    trainer.global_step = 4
    callback.on_train_start(trainer, NOTHING)
    assert (callback.ticker.total, callback.ticker.done, callback.ticker.quiet) == (10, 4, False)
    walk(callback, trainer, start=4, accumulate=3)
    assert callback.ticker.done == 10
    callback.on_train_end(trainer, NOTHING)
    assert not callback.ticker.open


def test_the_bar_goes_away_after_an_error_and_other_processes_have_none(progress: Any) -> None:
    callback = progress("train")
    callback.on_exception(NOTHING, NOTHING, RuntimeError())  # before there is one
    callback.on_train_start(FakeTrainer(zero=False), NOTHING)
    assert callback.ticker.quiet and callback.ticker.open
    callback.on_exception(NOTHING, NOTHING, RuntimeError())
    assert not callback.ticker.open


def test_of_the_older_checkpoints_one_of_every_so_many_hours_stays(tmp_path: Path) -> None:
    import os

    saver, trainer = SaveCheckpoints(tmp_path, every=1, keep=2, keep_hours=1.0), FakeTrainer(8)
    original = trainer.save_checkpoint

    def half_an_hour_later(path: Path, weights_only: bool) -> None:
        original(path, weights_only)
        os.utime(path, (0, 1800 * trainer.global_step))

    trainer.save_checkpoint = half_an_hour_later  # type: ignore[method-assign]
    walk(saver, trainer)
    assert sorted(path.name for path in tmp_path.iterdir()) == named(1, 3, 5, 7, 8)
