"""A loss that stands out is seen, noted, and left out where that is asked for; a resumed run judges alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from configs.files import ConfigError
from configs.load import load_config
from modules.lightning.finetuning import AdversarialFineTuning
from tests.train.conftest import SMALL
from tests.train.pair import PowerFailureError, launch
from train.finetune import finetune
from train.runs import Run
from train.spikes import LEAST, WINDOW, LossSpikes
from train.survival import LeaveInTime

Runs = Callable[..., Run]
FOURTEEN = ("optimizer.max_steps=14", "trainer.checkpoint_every=13", "attack.steps=1", "trainer.spikes=10")
SPIKED = 11  # the step after so many


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss times a hundred, in one step of every run of this test."""
    original = AdversarialFineTuning.training_step

    def spiking(self: Any, batch: Any, batch_idx: int) -> Any:
        return original(self, batch, batch_idx) * (100 if self.global_step == SPIKED else 1)

    monkeypatch.setattr(AdversarialFineTuning, "training_step", spiking)


def notes(run: Run, folder: str = "spikes") -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted((run.folder / folder).glob("*.json"))]


def state(run: Run, step: int) -> dict[str, Any]:
    return torch.load(run.checkpoints / f"step={step:06d}.ckpt", weights_only=True)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_loss_is_judged_by_the_median_of_those_before_it() -> None:
    spikes, seen = LossSpikes(10.0), list[float]()
    for i in range(200):
        loss = 1.0 + (i * 37 % 11) / 10 + (100.0 if i % 40 == 39 else 0.0)
        usual = median(seen[-WINDOW:]) if len(seen) >= LEAST else None
        expected = usual if usual is not None and loss > 10 * usual else None
        assert spikes.median_below(loss) == expected
        assert (expected is not None) == (i % 40 == 39)
        seen.append(loss)


def test_the_first_losses_are_not_judged_and_those_that_are_not_finite_never() -> None:
    spikes = LossSpikes(2.0)
    assert [spikes.median_below(10.0**i) for i in range(LEAST)] == [None] * LEAST
    for broken in (float("nan"), float("inf")):
        assert spikes.median_below(broken) is None
    assert len(spikes.state_dict()["losses"]) == LEAST


def test_a_loss_that_stays_high_becomes_the_rule() -> None:
    spikes = LossSpikes(10.0)
    for _ in range(WINDOW):
        spikes.median_below(1.0)
    stood_out = [spikes.median_below(100.0) is not None for _ in range(WINDOW)]
    assert all(stood_out[: WINDOW // 2]) and not any(stood_out[WINDOW // 2 + 1 :])


def test_losses_below_zero_have_no_spikes() -> None:
    spikes = LossSpikes(10.0)
    assert not any(spikes.median_below(loss) for loss in [-1.0] * 20 + [5.0])


@pytest.mark.usefixtures("planted")
def test_a_planted_spike_is_noted_with_its_samples_and_trained_on(run: Runs, capsys: Any) -> None:
    opened = run(*FOURTEEN)
    finetune(opened)
    (noted,) = notes(opened)
    assert noted["step"] == SPIKED + 1 and noted["left_out"] is False and noted["ratio"] == 10
    assert noted["loss"] > 10 * noted["median"] > 0 and noted["loss_by_process"] == [noted["loss"]]
    from data.plan import sample_indices
    from data.sample import digits

    source = digits("train")
    assert noted["samples_by_process"] == [[source.keys[i] for i in sample_indices(0, 8 * SPIKED, 8, len(source))]]
    assert f"step {SPIKED + 1}: the loss" in capsys.readouterr().out
    assert not notes(opened, "skipped")


@pytest.mark.usefixtures("planted")
def test_a_spike_is_left_out_where_that_is_asked_for_and_a_run_that_was_cut_off_agrees(
    run: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = ("trainer.skip_spikes=true", "trainer.checkpoint_every=1", "optimizer.weight_decay=0.5")
    whole, parts = run(*FOURTEEN, *said, out=tmp_path / "whole"), run(*FOURTEEN, *said, out=tmp_path / "parts")
    finetune(whole)
    assert same(state(whole, SPIKED)["state_dict"], state(whole, SPIKED + 1)["state_dict"])
    assert not same(state(whole, SPIKED + 1)["state_dict"], state(whole, SPIKED + 2)["state_dict"])
    assert notes(whole)[0]["left_out"] is True and len(notes(whole)) == 1

    with monkeypatch.context() as cut, pytest.raises(PowerFailureError):
        original = AdversarialFineTuning.training_step

        def failing(self: Any, batch: Any, batch_idx: int) -> Any:
            if self.global_step == SPIKED - 1:
                raise PowerFailureError
            return original(self, batch, batch_idx)

        cut.setattr(AdversarialFineTuning, "training_step", failing)
        finetune(parts)
    finetune(run(*FOURTEEN, *said, out=tmp_path / "parts"))
    assert notes(parts) == notes(whole)
    assert same(state(parts, 14)["state_dict"], state(whole, 14)["state_dict"])
    assert state(parts, 14)["callbacks"]["SkipBrokenSteps"] == state(whole, 14)["callbacks"]["SkipBrokenSteps"]


def test_the_noted_loss_of_accumulated_batches_is_their_mean(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.spikes.LEAST", 1)
    original, losses = AdversarialFineTuning.training_step, list[float]()

    def spiking(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = original(self, batch, batch_idx) * (100 if self.global_step == 3 else 1)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(AdversarialFineTuning, "training_step", spiking)
    opened = run("trainer.accumulate=2", "trainer.spikes=10", "attack.steps=1")
    finetune(opened)
    assert notes(opened)[-1]["loss"] == pytest.approx((losses[6] + losses[7]) / 2)
    assert len(notes(opened)[-1]["samples_by_process"][0]) == 16


def test_too_many_spikes_in_a_row_end_the_run_in_a_line(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.spikes.LEAST", 1)
    original = AdversarialFineTuning.training_step
    monkeypatch.setattr(
        AdversarialFineTuning, "training_step", lambda *said: original(*said) * 1e4 ** said[0].global_step
    )
    with pytest.raises(ValueError, match="^2 steps in a row, the last one 3, had a loss far above") as told:
        finetune(run("trainer.spikes=10", "trainer.skip_spikes=true", "trainer.skips=1", "attack.steps=1"))
    assert "\n" not in str(told.value) and "spikes/step=000003.json" in str(told.value)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (["trainer.spikes=1"], "trainer.spikes is 1.0; .* must be above 1"),
        (["trainer.skip_spikes=true"], "say trainer.spikes=10"),
        (["trainer.spikes=10", "trainer.skip_spikes=true", "trainer.strategy=zero2"], "cannot leave a step out"),
    ],
)
def test_settings_that_mean_nothing_are_refused(said: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_config("finetune", "fare_tiny_eps4", [*SMALL, *said])


@pytest.mark.parametrize(
    ("saved", "words"), [(4, "from there"), (2, "from step=000002.ckpt"), (None, "from the begin")]
)
def test_a_run_that_leaves_says_where_it_will_go_on(saved: int | None, words: str, tmp_path: Path) -> None:
    if saved:
        (tmp_path / f"step={saved:06d}.ckpt").touch()
    assert LeaveInTime(tmp_path, every=2)._whence(4).startswith(words)


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_agree_on_a_spike_of_one_and_its_step_can_be_replayed(tmp_path: Path) -> None:
    from train.replay import Wishes, replay

    said = [one for one in SMALL if "devices" not in one] + ["trainer.devices=2", "evaluation=null", *FOURTEEN]
    said += ["trainer.skip_spikes=true", "trainer.checkpoint_every=1"]
    planted = {"what": "spike", "step": SPIKED, "ranks": [1]}
    strategies = ("ddp", "fsdp2")
    jobs = [
        {
            "kind": "finetune",
            "recipe": "fare_tiny_eps4",
            "planted": planted,
            "overrides": [*said, f"trainer.strategy={strategy}"],
            "out": str(tmp_path / strategy),
        }
        for strategy in strategies
    ]
    launch(jobs, tmp_path)
    for job in jobs:
        run = Run(Path(job["out"]), load_config("finetune", "fare_tiny_eps4", job["overrides"]), finished=True)
        assert [(run.folder / f"ended-{rank}.txt").read_text() for rank in (0, 1)] == ["done", "done"]
        (noted,) = notes(run)
        first, second = noted["loss_by_process"]
        assert noted["step"] == SPIKED + 1 and second > 100 * first and noted["loss"] == (first + second) / 2
        assert same(state(run, SPIKED)["state_dict"], state(run, SPIKED + 1)["state_dict"])
        found = replay(run, "finetune", Wishes())
        assert found.same_samples is True and [len(mine) for mine in found.shares] == [1, 1]
        assert found.shares[0][0].loss == pytest.approx(first, rel=1e-3)
        assert found.shares[1][0].loss == pytest.approx(second / 1e4, rel=1e-3)
