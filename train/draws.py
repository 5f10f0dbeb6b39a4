"""Parts that draw from the global random generators draw the same whether or not a run was interrupted."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from modules import noise


class SeedEveryBatch(Callback):
    """Seeds the generators of torch, numpy and Python by the place of each batch, so that they have no past to restore.

    Nothing of ours reads them; stochastic depth and patch dropout of some encoders do, and so may parts of yours.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int, /) -> None:
        self.seed = seed
        self._place = (-1, -1)  # the step, and the batch within it

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed them."""
        step, number = self._place
        self._place = (trainer.global_step, number + 1 if step == trainer.global_step else 0)
        seed_generators(self.seed, *self._place, trainer.global_rank)


def seed_generators(seed: int, step: int, number: int, rank: int) -> None:
    """Seed all of them for a batch.

    Args:
        seed: of the run.
        step: finished optimizer steps.
        number: of the batch within its step, from 0.
        rank: of the process.
    """
    value = int(noise.keys_of([f"batch/{seed}/{step}/{number}/{rank}"]))
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


def state_of_generators() -> str:
    """12 hexadecimal digits that differ where the global generators of torch, numpy and Python do."""
    found = hashlib.blake2b(digest_size=6)
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])]
    for state in states:
        found.update(state.numpy().tobytes())
    numbers: Any = np.random.get_state()
    found.update(numbers[1].tobytes() + bytes(str(numbers[2:]), "ascii"))
    found.update(str(random.getstate()).encode())
    return found.hexdigest()
