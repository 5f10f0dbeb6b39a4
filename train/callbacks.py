"""The checkpoints that a training run leaves behind while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from train.best import BestCheckpoint


class SaveCheckpoints(Checkpoint):
    """Writes ``step=000100.ckpt`` every so many steps and after the last one.

    Args:
        folder: where to.
        every: optimizer steps.
        keep: newest ones that stay; -1 keeps all.
        keep_hours: of the older ones, the first stays, and one of every so many hours after it.
        best: knows the best one, which stays too; None where nobody asked.
    """

    def __init__(
        self,
        folder: Path,
        /,
        *,
        every: int,
        keep: int = -1,
        keep_hours: float | None = None,
        best: BestCheckpoint | None = None,
    ) -> None:
        self.folder, self.every, self.keep, self.keep_hours, self.best = folder, every, keep, keep_hours, best
        self._saved = 0
        self._times = 0  # that the best one was looked for in vain

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
        if trainer.is_global_zero:
            self._clear(self._best(trainer))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say which one is the best, now that the last one has been evaluated too."""
        if self.best is not None and trainer.is_global_zero:
            trainer.strategy.checkpoint_io.teardown()  # what is still being written is there then
            self._best(trainer)

    def _best(self, trainer: pl.Trainer) -> int | None:
        """The step of the best checkpoint; those that were saved on leaving, between the others, do not count."""
        if self.best is None:
            return None
        named = ((path.stem.removeprefix("step="), path) for path in self.folder.glob("step=*.ckpt"))
        steps = {int(number): path for number, path in named if number.isdigit()}
        done, last = trainer.global_step, trainer.max_steps
        found = self.best.among({n: p for n, p in steps.items() if n <= done and (n % self.every == 0 or n == last)})
        self._times += found is None
        if found is None and self._times == 2:  # an evaluation comes after the checkpoint that it judges
            there = ", ".join(self.best.names()) or "nothing"
            print(f"trainer.keep_best: no checkpoint has a {self.best.name!r}; known are: {there}", flush=True)
        return found

    def _clear(self, best: int | None) -> None:
        if self.keep <= 0:
            return
        stays: float | None = None  # when the last one that stays was written
        for path in sorted(self.folder.glob("step=*.ckpt"))[: -self.keep]:
            written = path.stat().st_mtime
            if self.keep_hours is not None and (stays is None or written - stays >= 3600 * self.keep_hours):
                stays = written
            elif best is None or path.name != f"step={best:06d}.ckpt":
                path.unlink()
