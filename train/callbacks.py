"""The checkpoints that a training run leaves behind while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint


class SaveCheckpoints(Checkpoint):
    """Writes ``step=000100.ckpt`` every so many steps and after the last one.

    Args:
        folder: where to.
        every: optimizer steps.
        keep: newest ones that stay; -1 keeps all.
        keep_hours: of the older ones, the first stays, and one of every so many hours after it.
    """

    def __init__(self, folder: Path, /, *, every: int, keep: int = -1, keep_hours: float | None = None) -> None:
        self.folder, self.every, self.keep, self.keep_hours = folder, every, keep, keep_hours
        self._saved = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The checkpoint that a run goes on from is there."""
        self._saved = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save where one is due; accumulated batches do not count twice."""
        step = trainer.global_step
        due = step % self.every == 0 or step == trainer.max_steps
        if not due or step == self._saved:
            return
        self._saved = step
        trainer.save_checkpoint(self.folder / f"step={step:06d}.ckpt", weights_only=False)
        if self.keep > 0 and trainer.is_global_zero:
            self._clear()

    def _clear(self) -> None:
        stays: float | None = None  # when the last one that stays was written
        for path in sorted(self.folder.glob("step=*.ckpt"))[: -self.keep]:
            written = path.stat().st_mtime
            if self.keep_hours is not None and (stays is None or written - stays >= 3600 * self.keep_hours):
                stays = written
            else:
                path.unlink()
