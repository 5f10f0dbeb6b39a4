"""A training that takes one step whenever it is asked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch


def steps_of(module: pl.LightningModule, batch: Any, *, precision: Any, device: torch.device) -> Iterator[None]:
    """An iterator whose every ``next`` is one whole step of a Trainer on the same batch, in a thread of its own.

    Args:
        module: what is trained; its optimizer and schedule are its own.
        batch: of every step.
        precision: as Lightning names it.
        device: where.
    """
    asked: queue.Queue[None] = queue.Queue()
    done: queue.Queue[BaseException | None] = queue.Queue()

    class OneAtATime(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            asked.get()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            done.put(None)

    def run() -> None:
        try:
            trainer = pl.Trainer(
                accelerator=device.type,
                devices=1,
                precision=precision,
                max_steps=-1,
                callbacks=[OneAtATime()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, _Same(batch))
        except BaseException as error:
            done.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        asked.put(None)
        error = done.get()
        if error is not None:
            raise error
        yield


class _Same:
    """The same batch for ever."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self.batch
