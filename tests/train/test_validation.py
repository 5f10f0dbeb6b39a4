"""Looking at held-out pairs: which ones, when, and without a trace in the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data.sample import digits
from train.datamodules import one_pass, whole_batches
from train.metrics import MetricsTable
from train.validation import Validate

NOTHING: Any = None


@pytest.mark.parametrize(("count", "size"), [(20, 7), (128, 128), (129, 128), (1, 8), (1000, 64)])
def test_every_sample_is_in_one_batch_and_no_batch_is_nearly_empty(count: int, size: int) -> None:
    batches = whole_batches(count, size)
    assert [i for batch in batches for i in batch] == list(range(count))
    lengths = {len(batch) for batch in batches}
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1


def test_one_pass_gives_those_batches_and_draws_no_random_number() -> None:
    import torch

    state = torch.get_rng_state()
    source = digits("tune", 10)
    found = list(one_pass(source, whole_batches(10, 4), workers=0))
    assert [len(batch) for batch in found] == [3, 3, 4]
    assert [key for batch in found for key in batch.key] == source.keys
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """(every, start, accumulate) -> the steps of a training of ten at which the callback validates."""

    def steps(every: int, *, start: int = 0, accumulate: int = 1) -> list[int]:
        seen: list[int] = []
        monkeypatch.setattr(Validate, "_validate", lambda _self, trainer, _module: seen.append(trainer.global_step))
        trainer: Any = SimpleNamespace(global_step=start, max_steps=10)
        callback = Validate(digits("tune", 4), every=every, batch_size=4)
        callback.on_train_start(trainer, NOTHING)
        for batch in range(start * accumulate, 10 * accumulate):
            trainer.global_step = (batch + 1) // accumulate
            callback.on_train_batch_end(trainer, NOTHING, NOTHING, NOTHING, batch)
        return seen

    return steps


def test_it_is_due_at_the_start_now_and_then_and_at_the_end(validated: Callable[..., list[int]]) -> None:
    assert validated(4) == [0, 4, 8, 10]
    assert validated(5) == [0, 5, 10]
    assert validated(100) == [0, 10]


def test_accumulated_batches_do_not_count_twice(validated: Callable[..., list[int]]) -> None:
    assert validated(4, accumulate=3) == [0, 4, 8, 10]


def test_a_run_that_goes_on_does_not_look_again(validated: Callable[..., list[int]]) -> None:
    assert validated(4, start=4, accumulate=2) == [8, 10]


def test_what_is_noted_makes_a_line_of_the_table(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv", every=5)
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.5}])
    trainer: Any = SimpleNamespace(
        global_step=0, max_steps=10, is_global_zero=True, callback_metrics={}, optimizers=[optimizer], callbacks=[table]
    )
    assert MetricsTable.of(trainer) is table
    table.note({"val/loss": 2.0})
    table.on_train_start(trainer, NOTHING)
    for step in range(1, 8):
        trainer.global_step, trainer.callback_metrics = step, {"train/loss": step}
        if step == 7:
            table.note({"val/loss": 1.0})
        table.on_train_batch_end(trainer, NOTHING, NOTHING, NOTHING, step)
    assert (tmp_path / "metrics.csv").read_text().split() == [
        "step,train/loss,lr,val/loss",
        "0,,,2.0",
        "1,1.0,0.5,",
        "5,5.0,0.5,",
        "7,7.0,0.5,1.0",
    ]
    again = MetricsTable(tmp_path / "metrics.csv", every=5)
    trainer.global_step = 5
    again.on_train_start(trainer, NOTHING)
    assert [row["step"] for row in again.rows] == ["0", "1", "5"]
