"""One fit that goes on where the last one stopped, whatever stopped it."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from configs.files import ConfigError
from configs.schema import OptimizerConfig, TrainerConfig
from data.batches import ImageBatch
from data.source import ImageSource
from eval.results import read_results
from modules.lightning.finetuning import AdversarialFineTuning
from train.callbacks import SaveCheckpoints
from train.finetune import finetune
from train.runs import Run
from train.trainer import build_trainer, optimizer_settings

Runs = Callable[..., Run]
Weights = dict[str, torch.Tensor]


def weights(run: Run) -> Weights:
    return load_file(run.folder / "export" / "encoder.safetensors")


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """(run, step, error) -> the run, stopped by an error in the batch after a step."""

    def stop(run: Run, step: int, error: BaseException) -> None:
        original = AdversarialFineTuning.training_step

        def stumbling(self: Any, batch: Any, batch_idx: int) -> Any:
            if self.global_step == step:
                raise error
            return original(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(AdversarialFineTuning, "training_step", stumbling)
            with pytest.raises(type(error)):
                finetune(run)

    return stop


@pytest.mark.parametrize(
    ("step", "settings"),
    [
        (0, ()),
        (2, ()),
        (3, ()),
        (2, ("trainer.accumulate=3",)),
        (3, ("trainer.accumulate=3",)),
        (3, ("data.workers=1",)),
        (3, ("trainer.save_async=true",)),
    ],
)
def test_a_stopped_run_ends_with_the_same_bits(
    step: int, settings: tuple[str, ...], run: Runs, stopped: Callable[..., None], tmp_path: Path
) -> None:
    whole, parts = run(*settings, out=tmp_path / "whole"), run(*settings, out=tmp_path / "parts")
    finetune(whole)
    stopped(parts, step, RuntimeError("the power failed"))
    kept = {path: path.read_bytes() for path in parts.checkpoints.glob("*")}
    finetune(run(*settings, out=tmp_path / "parts"))
    assert same(weights(whole), weights(parts))
    assert (parts.folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()
    assert all(path.read_bytes() == content for path, content in kept.items())  # no checkpoint is written over


def test_ctrl_c_is_ctrl_c_and_stays_so(run: Runs, stopped: Callable[..., None]) -> None:
    """Lightning would leave with code 1 and have the process ignore further ones."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        stopped(run(), 3, KeyboardInterrupt())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.name for path in run().checkpoints.iterdir()] == ["step=000002.ckpt"]


def test_another_exit_is_passed_on(run: Runs, stopped: Callable[..., None]) -> None:
    stopped(run(), 1, SystemExit(3))


def test_a_damaged_checkpoint_is_passed_over_and_its_rows_are_made_anew(
    run: Runs, evaluation: str, stopped: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (evaluation, "optimizer.max_steps=6")
    whole, parts = run(*settings, out=tmp_path / "whole"), run(*settings, out=tmp_path / "parts")
    finetune(whole)
    stopped(parts, 5, RuntimeError("the power failed"))
    newest = parts.checkpoints / "step=000004.ckpt"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    finetune(run(*settings, out=tmp_path / "parts"))
    assert f"{newest} is damaged" in capsys.readouterr().out
    assert same(weights(whole), weights(parts))

    def numbers(of: Run) -> list[tuple[Any, ...]]:
        rows = read_results(of.folder / "results.jsonl")
        return [(row.step, row.defense, row.attack, row.view, row.value) for row in rows]

    assert numbers(parts) == numbers(whole)
    assert sorted({step for step, *_ in numbers(whole)}) == [2, 4, 6]


def test_a_run_that_ended_without_its_export_only_writes_that(run: Runs) -> None:
    finetune(run())
    done = weights(run())
    (run().folder / "done").unlink()
    (run().folder / "export" / "encoder.safetensors").unlink()
    before = {path: path.stat().st_mtime_ns for path in run().checkpoints.iterdir()}
    finetune(run())
    assert same(done, weights(run()))
    assert {path: path.stat().st_mtime_ns for path in run().checkpoints.iterdir()} == before


def test_a_finished_run_returns_at_once(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    export = finetune(run())
    monkeypatch.setattr("train.finetune.load_model", lambda *_: pytest.fail("it was started again"))
    assert finetune(run()) == export


@pytest.mark.parametrize("eps", ["0", "${px:4}"])
def test_a_run_starts_where_fare_says(eps: str, run: Runs) -> None:
    """Student and original are one at the first step: without a radius there is nothing to learn."""
    finetune(run(f"threat.eps={eps}", "optimizer.max_steps=2"))
    with (run(f"threat.eps={eps}", "optimizer.max_steps=2").folder / "metrics.csv").open(newline="") as file:
        first = float(next(csv.DictReader(file))["train/loss"])
    assert first == pytest.approx(0.0, abs=1e-6) if eps == "0" else first > 1


def test_each_batch_is_read_once_in_the_order_of_the_seed(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    original = AdversarialFineTuning.training_step

    def watching(self: Any, batch: ImageBatch, batch_idx: int) -> Any:
        seen.append(batch.key)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(AdversarialFineTuning, "training_step", watching)
    finetune(run("trainer.accumulate=2"))
    assert [len(keys) for keys in seen] == [8] * 8  # four steps of two batches, and no batch is fetched in vain
    assert len({key for keys in seen for key in keys}) == 64
    from data.plan import sample_indices
    from data.sample import digits

    source: ImageSource = digits("train")
    assert [key for keys in seen for key in keys] == [source.keys[i] for i in sample_indices(0, 0, 64, len(source))]


def test_the_optimizers_settings_come_from_the_recipe() -> None:
    config = OptimizerConfig(lr=0.5, betas=[0.1, 0.2], warmup_steps=3, max_steps=9, decay_all=False)
    settings = optimizer_settings(config)
    assert (settings.lr, settings.betas, settings.warmup_steps, settings.max_steps) == (0.5, (0.1, 0.2), 3, 9)
    assert not settings.decay_all


@pytest.mark.parametrize(
    "settings",
    [{"strategy": "telepathy"}, {"accelerator": "abacus"}, {"devices": 0}, {"accelerator": "tpu"}],
)
def test_devices_that_are_not_to_be_had_are_told_in_a_line(settings: dict[str, Any], tmp_path: Path) -> None:
    config = TrainerConfig(**{"accelerator": "cpu", "devices": 1, **settings})
    with pytest.raises(ConfigError, match="^trainer(.strategy)?: ") as caught:
        build_trainer(config, 1, [SaveCheckpoints(tmp_path, every=1)], tmp_path)
    assert "\n" not in str(caught.value)


def test_half_precision_leaves_the_weights_whole(run: Runs, evaluation: str) -> None:
    finetune(run("trainer.precision=bf16-mixed", evaluation))
    done = run("trainer.precision=bf16-mixed", evaluation)
    assert {value.dtype for value in weights(done).values()} == {torch.float32}
    assert len(read_results(done.folder / "results.jsonl")) == 16


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_precisions_that_lightning_cannot_give_our_batches_are_refused(precision: str, run: Runs) -> None:
    with pytest.raises(ConfigError, match=f"trainer.precision: '{precision}' is not to be had; choose one of: 32-true"):
        run(f"trainer.precision={precision}")


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
def test_half_precision_is_not_replaced_in_silence_where_there_is_no_gpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="16-mixed needs a GPU, and there is none; use bf16-mixed or 32-true"):
        build_trainer(TrainerConfig(accelerator="cpu", precision="16-mixed"), 1, [], tmp_path)
