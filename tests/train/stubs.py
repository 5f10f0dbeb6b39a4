"""A trainer whose steps somebody else counts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

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


def checkpoint(step: int) -> dict[str, Any]:
    """What a training's checkpoint holds at least."""
    empty = {name: {} for name in ("epoch", "loops", "optimizer_states", "pytorch-lightning_version")}
    return {**empty, "global_step": step, "state_dict": {"weight": torch.zeros(3)}}
