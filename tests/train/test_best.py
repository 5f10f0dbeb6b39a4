"""The best checkpoint stays, whatever happens to a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.results import read_results
from modules.lightning.finetuning import AdversarialFineTuning
from tests.train.pair import PowerFailureError, plant
from tests.train.test_callbacks import FakeTrainer, named, walk
from train.best import BestCheckpoint
from train.callbacks import SaveCheckpoints
from train.finetune import finetune
from train.runs import Run

Runs = Callable[..., Run]
VALUES = {1: 5.0, 2: 3.0, 3: float("nan"), 4: 1.0, 5: 1.0, 6: 2.0, 7: 4.0, 8: float("inf")}


def write(folder: Path, values: dict[int, float], name: str = "val/loss") -> None:
    lines = [f"step,{name},lr", *(f"{step},{value},1.0" for step, value in values.items())]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def saved(folder: Path, said: str, *, keep: int = 1, every: int = 1, name: str = "val/loss") -> list[str]:
    """Names of the checkpoints that are left of a run whose values become known one by one."""
    saver, trainer = SaveCheckpoints(folder / "c", every=every, keep=keep, best=BestCheckpoint(folder, said)), Fake()
    for step in VALUES:
        write(folder, {n: value for n, value in VALUES.items() if n <= step}, name)
        trainer.global_step = step
        saver.on_train_batch_end(trainer, None, None, None, step)  # pyright: ignore[reportArgumentType]
    return sorted(path.name for path in (folder / "c").glob("*.ckpt"))


class Fake(FakeTrainer):
    def __init__(self) -> None:
        super().__init__(8)


def best(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "best.json").read_text())


@pytest.mark.parametrize(
    ("said", "name", "left", "value"),
    [
        ("val/loss", "val/loss", [4, 8], 1.0),  # the first of two equals, neither nan nor inf
        ("max val/loss", "val/loss", [1, 8], 5.0),
        ("val/denoising/0000-0099", "val/denoising/0000-0099", [4, 8], 1.0),
        ("val/similarity_image", "val/similarity_image", [1, 8], 5.0),
        ("min val/similarity_unrelated", "val/similarity_unrelated", [4, 8], 1.0),
    ],
)
def test_the_best_stays_beside_the_newest(said: str, name: str, left: list[int], value: float, tmp_path: Path) -> None:
    assert saved(tmp_path, said, name=name) == named(*left)
    assert best(tmp_path / "c") == {"metric": name, "value": value, "step": left[0], "checkpoint": named(left[0])[0]}


def test_the_best_may_be_among_the_newest(tmp_path: Path) -> None:
    assert saved(tmp_path, "val/loss", keep=5) == named(4, 5, 6, 7, 8)


def test_what_was_saved_on_leaving_between_two_checkpoints_is_never_the_best(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "step=000005.ckpt").touch()
    saved(tmp_path, "val/loss", every=2)
    assert best(tmp_path / "c")["step"] == 4
    write(tmp_path, {2: 3.0, 4: 2.0, 5: 0.5, 6: 2.0, 8: 2.0})
    assert saved(tmp_path, "val/loss", every=4)[-1] == "step=000008.ckpt" and best(tmp_path / "c")["step"] == 4


def test_a_name_that_nothing_has_is_told_once_with_those_there_are(tmp_path: Path, capsys: Any) -> None:
    assert saved(tmp_path, "val/los") == named(8)
    told = capsys.readouterr().out.splitlines()
    assert told == ["trainer.keep_best: no checkpoint has a 'val/los'; known are: val/loss, lr"]


def test_without_a_wish_nothing_is_written(tmp_path: Path) -> None:
    walk(SaveCheckpoints(tmp_path, every=2, keep=1), FakeTrainer(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == named(8)


def through_a_power_failure(run: Runs, said: tuple[str, ...], folder: Path) -> tuple[Run, Run]:
    """A run, and one that was cut off in its third step and went on."""
    whole, parts = run(*said, out=folder / "whole"), run(*said, out=folder / "parts")
    finetune(whole)
    original = plant(AdversarialFineTuning, {"what": "power", "step": 2})
    try:
        with pytest.raises(PowerFailureError):
            finetune(parts)
    finally:
        AdversarialFineTuning.training_step = original
    finetune(run(*said, out=folder / "parts"))
    return whole, parts


@pytest.mark.parametrize("asynchronous", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_best_outlives_a_cut_off_run(asynchronous: bool, run: Runs, tmp_path: Path) -> None:
    said = ("trainer.checkpoint_every=1", "trainer.keep=1", "trainer.keep_best='min train/loss'", "attack.steps=1")
    said += (f"trainer.save_async={str(asynchronous).lower()}",)
    whole, parts = through_a_power_failure(run, said, tmp_path)
    values = {int(row["step"]): float(row["train/loss"]) for row in read(whole)}
    step = min(values, key=lambda step: values[step])
    assert step < 4 and best(whole.checkpoints) == best(parts.checkpoints)
    assert best(whole.checkpoints)["step"] == step and best(whole.checkpoints)["value"] == values[step]
    left = [[path.name for path in sorted(each.checkpoints.glob("*.ckpt"))] for each in (whole, parts)]
    assert left[0] == named(step, 4) or asynchronous  # one that is still being written cannot be cleared
    assert set(named(step, 4)) <= set(left[1])


def read(of: Run) -> list[dict[str, str]]:
    with (of.folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_best_of_an_evaluation_outlives_a_cut_off_run(run: Runs, evaluation: str, tmp_path: Path) -> None:
    key = "eval/classification/digits/none/worst/worst/robust_accuracy"
    said = (evaluation, "trainer.checkpoint_every=1", "trainer.keep=1", "optimizer.lr=3e-4")
    whole, parts = through_a_power_failure(run, (*said, f"trainer.keep_best='min {key}'"), tmp_path)
    values = {row.step: row.value for row in read_results(whole.folder / "results.jsonl") if row.key == key}
    step = min(values, key=lambda step: (values[step], step))
    assert values.keys() == {1, 2, 3, 4} and len(set(values.values())) > 1 and step < 4
    assert best(whole.checkpoints)["step"] == step and best(parts.checkpoints) == best(whole.checkpoints)
    for each in (whole, parts):
        assert [path.name for path in sorted(each.checkpoints.glob("*.ckpt"))] == named(step, 4)
