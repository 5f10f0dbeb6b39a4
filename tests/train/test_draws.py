"""Global generators that an interruption leaves no trace in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from modules.lightning.finetuning import AdversarialFineTuning
from tests.train.pair import PowerFailureError
from train.draws import SeedEveryBatch, state_of_generators
from train.finetune import finetune
from train.runs import Run
from train.samples import read_samples, samples_file

NOTHING: Any = None
RECORDED = ("trainer.record_samples=true", "trainer.accumulate=2")


def draws(callback: SeedEveryBatch, step: int, rank: int = 0) -> tuple[float, float, float]:
    callback.on_train_batch_start(SimpleNamespace(global_step=step, global_rank=rank), NOTHING, NOTHING, 0)  # type: ignore[arg-type]
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_every_batch_of_every_process_has_draws_of_its_own() -> None:
    one = SeedEveryBatch(0)
    seen = [draws(one, step) for step in (0, 0, 1, 1, 2)]
    assert len({value for each in seen for value in each}) == 15
    again = SeedEveryBatch(0)
    assert [draws(again, step) for step in (1, 1, 2)] == seen[2:]
    assert draws(SeedEveryBatch(0), 1, rank=1) != seen[2] != draws(SeedEveryBatch(1), 1)


@pytest.mark.parametrize("draw", [lambda: torch.rand(()), lambda: np.random.rand(), lambda: random.random()])
def test_a_draw_from_any_generator_shows_in_their_state(draw: Callable[[], Any]) -> None:
    before = state_of_generators()
    assert state_of_generators() == before
    draw()
    assert state_of_generators() != before


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A training step that draws from every global generator; the power fails in a step of the list."""
    original, fails = AdversarialFineTuning.training_step, []

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step in fails:
            raise PowerFailureError
        return original(self, batch, batch_idx) * (1 + torch.rand(()) + np.random.rand() + random.random())

    monkeypatch.setattr(AdversarialFineTuning, "training_step", training_step)
    yield fails


def interrupted(run: Callable[..., Run], folder: Path, fails: list[int]) -> tuple[Path, Path]:
    """A run, and one that the power failed; both trained to the end."""
    whole, parts = (run(*RECORDED, out=folder / name) for name in ("whole", "parts"))
    finetune(whole)
    fails.append(3)
    with pytest.raises(PowerFailureError):
        finetune(parts)
    fails.clear()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(4711)  # a new process knows nothing of the old one's generators
    finetune(run(*RECORDED, out=folder / "parts"))
    return whole.folder, parts.folder


def test_a_run_whose_parts_draw_from_global_generators_goes_on_with_the_same_bits(
    drawing: list[int], run: Callable[..., Run], tmp_path: Path
) -> None:
    whole, parts = interrupted(run, tmp_path, drawing)
    for name in ("export/encoder.safetensors", "metrics.csv", "samples-rank0.csv"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_without_it_the_draws_of_the_two_would_differ(
    drawing: list[int], run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SeedEveryBatch, "on_train_batch_start", lambda *_: None)
    whole, parts = (read_samples(samples_file(folder, 0)) for folder in interrupted(run, tmp_path, drawing))
    assert [row["key"] for row in whole] == [row["key"] for row in parts]
    assert [row["draws"] for row in whole] != [row["draws"] for row in parts]
