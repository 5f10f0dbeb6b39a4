"""The progress bar of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.train.stubs import NOTHING, FakeTrainer, walk
from train.progress import StepProgress


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
    monkeypatch.setattr("train.progress.Ticker", Bar)
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
