"""What numbers are like on every process, and what a step is noted with where they are not as they should be."""

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


def of_all(trainer: pl.Trainer, value: Tensor) -> list[float]:
    """One number of every process, the same list on all of them; every process must ask."""
    if trainer.world_size == 1:
        return [float(value)]
    device = trainer.strategy.root_device
    return trainer.strategy.all_gather(value.float().reshape(1).to(device)).flatten().tolist()


def record_of(trainer: pl.Trainer, *, step: int, seed: int, keys: list[str], **said: Any) -> dict[str, Any]:
    """What a step is noted with: enough to meet it again; every process must ask.

    Args:
        trainer: knows the other processes.
        step: its number.
        seed: of the run.
        keys: of this process's samples.
        said: what was found, such as which numbers were not finite.
    """
    found: list[Any] = [keys]
    if trainer.world_size > 1:
        found = [None] * trainer.world_size
        torch.distributed.all_gather_object(found, keys)
    return {"step": step, "seed": seed, **said, "samples_by_process": found}
