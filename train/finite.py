"""Whether numbers are finite on every process, and what is noted where they are not."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


def broken_grads(grads: list[Tensor]) -> bool:
    """Whether a gradient holds a number that is not finite."""
    grads = [grad for grad in grads if grad.numel()]  # a process may have no part of a small weight
    if not grads:
        return False
    largest = torch.nn.utils.get_total_norm(grads, float("inf"))
    return not bool(largest.isfinite())


def agreed(trainer: pl.Trainer, *said: bool) -> tuple[bool, ...]:
    """What any process says; every process must ask."""
    if trainer.world_size == 1:
        return said
    device = trainer.strategy.root_device
    votes = trainer.strategy.reduce(torch.tensor(said, dtype=torch.float32, device=device), reduce_op="max")
    return tuple(bool(vote) for vote in votes.tolist())


def record_of(trainer: pl.Trainer, *, step: int, seed: int, broken: list[str], keys: list[str]) -> dict[str, Any]:
    """What a step that was left out is noted with: enough to meet it again; every process must ask.

    Args:
        trainer: knows the other processes.
        step: its number.
        seed: of the run.
        broken: what was not finite.
        keys: of this process's samples.
    """
    found: list[Any] = [keys]
    if trainer.world_size > 1:
        found = [None] * trainer.world_size
        torch.distributed.all_gather_object(found, keys)
    return {"step": step, "seed": seed, "broken": broken, "samples_by_process": found}
