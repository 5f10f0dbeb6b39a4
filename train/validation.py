"""Looks at held-out pairs while a prior is trained."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from data.pairs import Pairs
from eval.prior_health import progress_line
from modules.lightning.prior_training import PriorTraining
from train.datamodules import one_pass, whole_batches
from train.metrics import MetricsTable


class Validate(Callback):
    """Validates before the first step, every so many steps, and after the last one; notes it in ``metrics.csv``.

    Not Lightning's own validation loop: that comes after the checkpoint of its step, so a run killed in between would
    lose it, and the batches here are the same for any number of processes.

    Args:
        source: held-out pairs.
        every: optimizer steps.
        batch_size: pairs at a time on one device.
        workers: reading processes per training process.
    """

    def __init__(self, source: Pairs, /, *, every: int, batch_size: int, workers: int = 0) -> None:
        self.source, self.every, self.workers = source, every, workers
        self.batches = whole_batches(len(source), batch_size)
        self._last = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where the training starts from, unless it goes on."""
        self._last = trainer.global_step
        if self._last == 0:
            self._validate(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Validate where it is due; accumulated batches do not count twice."""
        step = trainer.global_step
        if step != self._last and (step % self.every == 0 or step == trainer.max_steps):
            self._last = step
            self._validate(trainer, pl_module)

    def _validate(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, PriorTraining)
        mine = self.batches[trainer.global_rank :: trainer.world_size]
        module.eval()
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            module.on_validation_epoch_start()
            for number, batch in enumerate(one_pass(self.source, mine, workers=self.workers)):
                module.validation_step(trainer.strategy.batch_to_device(batch), number)
            found = module.validated()
        module.train()
        table = MetricsTable.of(trainer)
        if table is not None:
            table.note(found)
        if trainer.is_global_zero:
            print(progress_line(trainer.global_step, found), flush=True)
