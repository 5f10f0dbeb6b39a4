"""The progress bar of a training."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from eval.progress import Ticker


class StepProgress(Callback):
    """A progress bar over optimizer steps.

    Args:
        title: what is trained.
    """

    def __init__(self, title: str, /) -> None:
        self.title, self.done = title, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar on the first process."""
        self.done = trainer.global_step
        self.ticker = Ticker(self.title, trainer.max_steps, quiet=not trainer.is_global_zero)
        self.ticker.__enter__()
        self.ticker.advance(self.done)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance."""
        self.ticker.advance(trainer.global_step - self.done)
        self.done = trainer.global_step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the bar away."""
        self.ticker.__exit__(None, None, None)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take the bar away after an error too."""
        if hasattr(self, "ticker"):
            self.ticker.__exit__(None, None, None)
