"""Checkpoints through whatever happens to a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.stubs import FakeTrainer, walk
from train.callbacks import SaveCheckpoints


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
