"""What trackers are told, read back from what they wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from eval.results import Result, read_results
from modules.lightning.finetuning import AdversarialFineTuning
from train.finetune import finetune
from train.runs import Run
from train.trackers import named

Runs = Callable[..., Run]
KEY = "eval/classification/digits/none/pgd/adaptive/robust_accuracy"


def scalars(run: Run) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by name, from TensorBoard's event files."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run.folder / "events"))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = AdversarialFineTuning.training_step

    def stumbling(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == step:
            raise RuntimeError("the power failed")
        return original(self, batch, batch_idx)

    monkeypatch.setattr(AdversarialFineTuning, "training_step", stumbling)


def test_tensorboard_has_every_line(run: Runs) -> None:
    pytest.importorskip("tensorboard")
    words = ("trainer.trackers=[tensorboard]", "optimizer.max_steps=2")
    finetune(run(*words))
    assert_every_line(run(*words))


def assert_every_line(run: Run) -> None:
    found = scalars(run)
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    for name in set(records[0]) - {"step", "time"}:
        assert found[name] == [(record["step"], pytest.approx(record[name], rel=1e-6)) for record in records], name


@pytest.mark.slow
def test_tensorboard_has_every_line_and_every_evaluated_checkpoint_once(
    run: Runs, evaluation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails after a checkpoint was evaluated, and goes on from it."""
    pytest.importorskip("tensorboard")
    words = (evaluation, "trainer.trackers=[tensorboard]")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power"):
        stop_at(3, patch)
        finetune(run(*words))
    finetune(run(*words))
    assert_every_line(run(*words))
    found = scalars(run(*words))
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4]
    rows = read_results(run(*words).folder / "results.jsonl")
    assert {row.step for row in rows} == {2, 4} and KEY.replace("adaptive", "worst").replace("pgd", "worst") in found
    for row in rows:
        assert (row.step, pytest.approx(row.value)) in found[row.key]
        assert [step for step, _ in found[row.key]] == [2, 4]


@pytest.mark.slow
def test_a_tracker_that_fails_is_told_no_more_and_the_training_goes_on(
    run: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    from pytorch_lightning.loggers import TensorBoardLogger

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(TensorBoardLogger, "log_metrics", full)
    words = ("trainer.trackers=[tensorboard]", "optimizer.max_steps=2")
    finetune(run(*words))
    said = capsys.readouterr().out
    assert said.count("tensorboard is told no more, and the training goes on: no space left on device") == 1
    assert len((run(*words).folder / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_wandb_goes_on_with_the_same_run_without_a_network(
    run: Runs, evaluation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    options = "trainer.tracker_options={wandb: {project: tests, offline: true}}"
    words = (evaluation, "trainer.trackers=[wandb]", options)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power"):
        stop_at(3, patch)
        finetune(run(*words))
    finetune(run(*words))
    name = json.loads((run(*words).folder / "trackers.json").read_text())["wandb"]
    assert len(list((run(*words).folder / "wandb").glob(f"offline-run-*-{name}"))) == 2


@pytest.mark.slow
def test_mlflow_goes_on_with_the_same_run(run: Runs, evaluation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

    words = (evaluation, "trainer.trackers=[mlflow]")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power"):
        stop_at(3, patch)
        finetune(run(*words))
    finetune(run(*words))
    folder = run(*words).folder
    client = MlflowClient(f"file:{folder / 'mlruns'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "robustclip"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_id == json.loads((folder / "trackers.json").read_text())["mlflow"]
    assert found.info.status == "FINISHED"
    assert {metric.step for metric in client.get_metric_history(found.info.run_id, "train/loss")} == {1, 2, 3, 4}
    assert [metric.step for metric in client.get_metric_history(found.info.run_id, KEY)] == [2, 4]


def test_a_radius_is_named_where_a_curve_shares_a_key() -> None:
    def row(eps: float, attack: str = "pgd") -> Result:
        view = "worst" if attack == "worst" else "adaptive"
        place = ("classification", "digits", 8, "c", 2, "E", "none", attack, view, "linf", eps, "robust_accuracy")
        return Result(*place, value=eps, low=0.0, high=1.0, seconds=0.0, seed=0, config="")

    rows = [row(4 / 255), row(4 / 255, "worst"), row(2 / 255), row(8 / 255)]
    assert named(rows) == {
        KEY: 4 / 255,
        KEY.replace("pgd/adaptive", "worst/worst"): 4 / 255,
        f"{KEY}/eps_2": 2 / 255,
        f"{KEY}/eps_8": 8 / 255,
    }
