"""Bad samples, counted over all processes: too many on all of them together end the run, and the end says how many."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from configs.files import write_atomically
from data.bad_samples import Found
from train.survival import LeaveInTime

log = logging.getLogger(__name__)

FILE = "bad_samples.json"
_EVERY = 50


class CountBadSamples(Callback):
    """Tells all processes what each has found bad, every 50 steps and before each checkpoint, which keeps it.

    Each process counts all, so that ``data.max_bad`` is a share of the whole data, and all end at the same step.  A
    sample counts once, whoever found it and however often.  The run's folder gets the counts in ``bad_samples.json``.

    Args:
        folder: of the run.
        found: by this process and its readers.
        checkpoint_every: steps between checkpoints.
    """

    def __init__(self, folder: Path, found: Found, /, *, checkpoint_every: int) -> None:
        self.folder, self.found, self.checkpoint_every = folder, found, checkpoint_every
        self._last = 0

    def state_dict(self) -> dict[str, Any]:
        """Saved with a checkpoint: all that were found."""
        return self.found.plain()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.found.restore(state_dict)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell, where it is time; comes before the checkpoints.

        Raises:
            ValueError: more are bad than ``data.max_bad`` allows; every process raises it.
        """
        step = trainer.global_step
        leaves = any(isinstance(other, LeaveInTime) and other.agreed for other in trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
        if step != self._last and (step % _EVERY == 0 or step % self.checkpoint_every == 0 or leaves):
            self._last = step
            self._tell(trainer)
            self.found.check()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the counts, should anything be bad, and say so once."""
        self._tell(trainer)
        counts = self.found.counts()
        if trainer.is_global_zero and any(counts[kind] for kind in ("bad", "lost", "refused")):
            write_atomically(self.folder / FILE, json.dumps(counts, indent=1))
            log.warning("bad data, in all processes together: %s", json.dumps(counts))

    def _tell(self, trainer: pl.Trainer) -> None:
        if trainer.world_size == 1:
            return
        heard: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(heard, self.found.news())
        for rank, news in enumerate(heard):
            if rank != trainer.global_rank:
                self.found.take(news, rank)
