"""Signals, and numbers that are not finite, on one process and on two."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from eval.results import read_results
from modules.lightning.finetuning import AdversarialFineTuning
from tests.train.conftest import SMALL
from tests.train.pair import launch, plant
from train.finetune import finetune
from train.finite import broken_grads
from train.runs import Run
from train.survival import SIGNALS, LeaveInTime

Runs = Callable[..., Run]
DEEPSPEED = find_spec("deepspeed") is not None


@pytest.fixture
def planted() -> Iterator[Callable[..., None]]:
    """(what, step) -> let it happen from now on in every run of this test."""
    original = AdversarialFineTuning.training_step
    yield lambda what, step: plant(AdversarialFineTuning, {"what": what, "step": step})
    AdversarialFineTuning.training_step = original


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "export" / "encoder.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def state(run: Path, step: int) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"step={step:06d}.ckpt", weights_only=True)


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_is_closed_is_heeded_unless_nohup_says_otherwise(ignored: bool, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    leave = LeaveInTime(tmp_path, every=2)
    try:
        leave.on_fit_start(SimpleNamespace(callbacks=[]), None)  # pyright: ignore[reportArgumentType]
        signal.raise_signal(signal.SIGHUP)
        assert leave.asked == (None if ignored else signal.SIGHUP)
        leave.listen_no_longer()
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        leave.listen_no_longer()
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("step", "saved"), [(0, 1), (1, 2), (2, 3)])
def test_a_run_that_is_told_to_end_saves_within_a_step_and_goes_on_with_the_same_bits(
    number: signal.Signals, step: int, saved: int, run: Runs, evaluation: str, tmp_path: Path, capsys: Any
) -> None:
    whole, parts = run(evaluation, out=tmp_path / "whole"), run(evaluation, out=tmp_path / "parts")
    finetune(whole)
    original = plant(AdversarialFineTuning, {"what": number.name, "step": step})
    try:
        with pytest.raises(SystemExit) as left:
            finetune(parts)
    finally:
        AdversarialFineTuning.training_step = original
    assert left.value.code == 0 and f"stopped by {number.name} after step {saved}" in capsys.readouterr().out
    assert names(parts.folder)[-1] == f"step={saved:06d}.ckpt" and not (parts.folder / "done").exists()
    finetune(run(evaluation, out=tmp_path / "parts"))
    assert same(weights(whole.folder), weights(parts.folder))
    assert (parts.folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()
    assert names(parts.folder) == names(whole.folder) == ["step=000002.ckpt", "step=000004.ckpt"]

    def numbers(of: Run) -> list[tuple[Any, ...]]:
        rows = read_results(of.folder / "results.jsonl")
        return [(row.step, row.defense, row.attack, row.view, row.value) for row in rows]

    assert numbers(parts) == numbers(whole)


def test_reading_processes_outlive_a_signal_to_all(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    original = AdversarialFineTuning.training_step

    def stumbling(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 1:
            readers = multiprocessing.active_children()
            assert readers
            for number in SIGNALS:
                for reader in readers:
                    os.kill(reader.pid or 0, number)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(AdversarialFineTuning, "training_step", stumbling)
    finetune(run("data.workers=1"))
    assert (run("data.workers=1").folder / "done").is_file()


def test_a_signal_in_the_last_step_lets_the_run_end(run: Runs, planted: Callable[..., None]) -> None:
    planted("SIGTERM", 3)
    finetune(run())
    assert (run().folder / "done").is_file()


@pytest.mark.parametrize("step", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_a_signal_in_an_evaluation_is_not_kept_waiting_and_the_evaluation_goes_on(
    step: int, run: Runs, evaluation: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After step 4 the training is over, and the signal comes in the evaluation that is left."""
    from eval.judge import Judge

    original, judged = Judge.batch, list[int]()

    def batch(self: Judge, *said: Any) -> Any:
        judged.append(self.subject.step)
        if self.subject.step == step and judged.count(step) in (2, 3):  # the second time in a run that goes on
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *said)

    monkeypatch.setattr(Judge, "batch", batch)
    with pytest.raises(SystemExit) as left:
        finetune(run(evaluation, out=tmp_path / "parts"))
    assert left.value.code == 0 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    told = capsys.readouterr().out
    assert f"stopped by SIGTERM while the checkpoint of step {step} was evaluated; the same command goes on fro" in told
    assert judged.count(step) == 2 and names(tmp_path / "parts")[-1] == f"step={step:06d}.ckpt"
    assert not (tmp_path / "parts" / "done").exists()
    assert finetune_until_done(run, evaluation, tmp_path / "parts") == 2
    monkeypatch.undo()
    finetune(run(evaluation, out=tmp_path / "whole"))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))

    def numbers(of: str) -> list[tuple[Any, ...]]:
        rows = read_results(tmp_path / of / "results.jsonl")
        return [(row.step, row.defense, row.attack, row.view, row.value) for row in rows]

    assert numbers("parts") == numbers("whole")


def finetune_until_done(run: Runs, evaluation: str, out: Path) -> int:
    """How often it was started again."""
    times = 0
    while not (out / "done").exists():
        times += 1
        try:
            finetune(run(evaluation, out=out))
        except SystemExit as left:
            assert left.code == 0 and times < 4
    return times


def test_handlers_are_given_back_and_one_of_sigusr1_is_called(run: Runs, planted: Callable[..., None]) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    mine = signal.getsignal(signal.SIGUSR1)
    try:
        planted("SIGUSR1", 1)
        with pytest.raises(SystemExit):
            finetune(run())
        assert heard == [signal.SIGUSR1] and signal.getsignal(signal.SIGUSR1) is mine
        os.kill(os.getpid(), signal.SIGUSR1)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_broken_step_is_left_out_and_noted(
    what: str, run: Runs, planted: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    planted(what, 2)
    opened = run("trainer.checkpoint_every=1", "optimizer.weight_decay=0.5")
    finetune(opened)
    assert "step 3 is skipped, not finite: " in capsys.readouterr().out
    before, after = state(opened.folder, 2), state(opened.folder, 3)
    assert same(before["state_dict"], after["state_dict"])
    for number, kept in before["optimizer_states"][0]["state"].items():
        assert same(kept, after["optimizer_states"][0]["state"][number])
    assert all(bool(value.isfinite().all()) for value in weights(opened.folder).values())
    assert not same(after["state_dict"], state(opened.folder, 4)["state_dict"])
    (file,) = (opened.folder / "skipped").iterdir()
    noted = json.loads(file.read_text())
    assert file.name == "step=000003.json" and noted["step"] == 3 and noted["seed"] == 0
    assert noted["broken"] == (["loss", "gradient"] if what == "loss" else ["gradient"])
    from data.plan import sample_indices
    from data.sample import digits

    source = digits("train")
    assert noted["samples_by_process"] == [[source.keys[i] for i in sample_indices(0, 16, 8, len(source))]]


def test_too_many_broken_steps_in_a_row_end_the_run_in_a_line(run: Runs, planted: Callable[..., None]) -> None:
    planted("loss", [1, 2, 3])
    with pytest.raises(
        ValueError, match="^3 steps in a row, the last one 4, had a loss and a gradient that is not"
    ) as told:
        finetune(run("trainer.skips=2"))
    assert "\n" not in str(told.value) and "skipped/step=000004.json" in str(told.value)
    assert all(bool(value.isfinite().all()) for value in state(run("trainer.skips=2").folder, 2)["state_dict"].values())


def test_broken_steps_that_are_not_in_a_row_do_not_add_up(run: Runs, planted: Callable[..., None]) -> None:
    planted("loss", [0, 2])
    finetune(run("trainer.skips=1"))
    assert len(list((run("trainer.skips=1").folder / "skipped").iterdir())) == 2


def test_one_number_among_many_breaks_a_gradient() -> None:
    fine = [torch.ones(3), torch.full((2, 2), 1e30)]
    assert not broken_grads([*fine, torch.ones(0)]) and not broken_grads([torch.ones(0)])
    for number in (float("nan"), float("inf"), -float("inf")):
        assert broken_grads([*fine, torch.tensor([0.0, number])])


TWO = [s for s in SMALL if "devices" not in s] + ["trainer.devices=2", "attack.steps=2", "evaluation=null"]
STRATEGIES = ["ddp", "fsdp2", *(["zero2"] if DEEPSPEED else [])]
PLANTED = {
    "whole": None,
    "SIGTERM": {"what": "SIGTERM", "step": 2, "ranks": [1]},
    "loss": {"what": "loss", "step": 2, "ranks": [1]},
    "gradient": {"what": "gradient", "step": 2, "ranks": [0]},
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survival")
    jobs = []
    for strategy in STRATEGIES:
        for name, planted in [*PLANTED.items(), ("SIGTERM", None)]:
            told = {"overrides": [*TWO, f"trainer.strategy={strategy}"], "out": str(folder / f"{strategy}-{name}")}
            jobs.append({"kind": "finetune", "recipe": "fare_tiny_eps4", "planted": planted, **told})
            if name == "SIGTERM" and planted:
                jobs.append({**jobs[-1], "out": str(folder / f"{strategy}-left")})
    launch(jobs, folder)
    return folder


class TestTwoProcesses:
    pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(1800)]

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_a_signal_to_one_process_lets_both_save_and_leave(self, strategy: str, pair: Path) -> None:
        left = pair / f"{strategy}-left"
        assert [(left / f"ended-{rank}.txt").read_text() for rank in range(2)] == ["SystemExit: 0"] * 2
        assert names(left) == ["step=000002.ckpt", "step=000003.ckpt"]
        went_on, whole = pair / f"{strategy}-SIGTERM", pair / f"{strategy}-whole"
        assert same(weights(went_on), weights(whole)) and names(went_on) == names(whole)
        assert (went_on / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()

    @pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
    @pytest.mark.parametrize(("what", "rank"), [("loss", 1), ("gradient", 0)])
    def test_a_broken_batch_of_one_process_is_left_out_by_both(
        self, what: str, rank: int, strategy: str, pair: Path
    ) -> None:
        run = pair / f"{strategy}-{what}"
        assert (run / "ended-0.txt").read_text() == (run / "ended-1.txt").read_text() == "done"
        assert all(bool(value.isfinite().all()) for value in weights(run).values())
        assert not same(weights(run), weights(pair / f"{strategy}-whole"))
        noted = json.loads((run / "skipped" / "step=000003.json").read_text())
        assert [len(keys) for keys in noted["samples_by_process"]] == [4, 4]
        assert len({key for keys in noted["samples_by_process"] for key in keys}) == 8

    @pytest.mark.skipif(not DEEPSPEED, reason="DeepSpeed is not installed")
    @pytest.mark.parametrize("what", ["loss", "gradient"])
    def test_zero_ends_at_a_broken_step_before_it_saves_one(self, what: str, pair: Path) -> None:
        run = pair / f"zero2-{what}"
        for rank in range(2):
            assert "is not finite" in (run / f"ended-{rank}.txt").read_text()
        assert names(run) == ["step=000002.ckpt"]
