"""What a training tells of itself while it runs: a line every so many steps, and nothing between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from modules.lightning.watch import StepWatch
from train.gradients import gradient_norm, keeps_gradients, stepped_norm
from train.perf import Speedometer
from train.table import GrowingRecord, GrowingTable

ALIASES = {"train/cosine": "cos-sim"}
"""What the FARE authors' code calls it, in ``metrics.jsonl`` and trackers."""
GRAD_NORM = "train/grad_norm"


class MetricsTable(Callback):
    """Writes what the module logs to ``metrics.csv``; a run that goes on drops the lines after its checkpoint.

    What depends on the machine goes to ``perf.csv`` beside it, and everything together to ``metrics.jsonl``.  In steps
    without a line nothing is computed and no process waits for another.  Callbacks before it may ``note`` values of
    their own, such as a validation's.

    Args:
        path: of the table.
        every: optimizer steps between lines.
        speed: the trainer's profiler, which knows how fast the training is.
        tell: called on the first process with the step and all values of a line.
    """

    def __init__(
        self,
        path: Path,
        /,
        *,
        every: int,
        speed: Speedometer | None = None,
        tell: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> None:
        self.path, self.every, self.speed, self.tell = path, every, speed, tell
        self.table, self.perf = GrowingTable(path), GrowingTable(path.with_name("perf.csv"))
        self.record = GrowingRecord(path.with_suffix(".jsonl"))
        self._noted: dict[str, float] = {}
        self._norm: Tensor | None = None
        self._step = 0

    @classmethod
    def of(cls, trainer: pl.Trainer) -> MetricsTable | None:
        """The trainer's table, where it has one."""
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        return next((callback for callback in callbacks if isinstance(callback, cls)), None)

    @property
    def rows(self) -> list[dict[str, str]]:
        """The lines of ``metrics.csv``."""
        return self.table.rows()

    def note(self, values: dict[str, float]) -> None:
        """Add values to the line of the step that ends now; it is written in any case."""
        self._noted |= values

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the lines up to the step that the run goes on from; write what was noted before the first one."""
        self._step = trainer.global_step
        if trainer.is_global_zero:
            for file in (self.table, self.record, *((self.perf,) if self.speed else ())):
                file.keep(self._step)
        if self._noted:
            self._add(trainer, {}, {})

    def _due(self, trainer: pl.Trainer, step: int) -> bool:
        return step % self.every == 0 or step in (1, trainer.max_steps)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ask the module to tell of a step that will have a line."""
        watch = getattr(pl_module, "watch", None)
        if isinstance(watch, StepWatch):
            watch.wanted = self._due(trainer, trainer.global_step + 1)
        if self.speed is not None:
            self.speed.count(len(getattr(batch, "key", ())))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Measure the gradient of a step that will have a line; it has not been clipped yet."""
        if self._due(trainer, trainer.global_step + 1) and not keeps_gradients(trainer):
            self._norm = gradient_norm(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note a line where one is due."""
        step = trainer.global_step
        if step == self._step:
            return  # batches accumulate
        self._step = step
        due = self._due(trainer, step)
        if not due and not self._noted:
            return
        metrics = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        metrics["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        metrics |= self._measured(trainer, pl_module) if due else {}
        self._add(trainer, metrics, self.speed.read(trainer) if due and self.speed is not None else {})

    def _measured(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
        """What was measured of the step, means over the processes; every process must ask."""
        watch = getattr(module, "watch", None)
        values = watch.take() if isinstance(watch, StepWatch) else {}
        if values and trainer.world_size > 1:
            means = trainer.strategy.reduce(torch.stack(list(values.values())), reduce_op="mean")
            values = dict(zip(values, means, strict=True))
        found = {name: float(value) for name, value in values.items()}
        norm, self._norm = self._norm, None
        told = stepped_norm(trainer) if norm is None else float(norm)
        return dict(sorted((found if told is None else {**found, GRAD_NORM: told}).items()))

    def _add(self, trainer: pl.Trainer, values: dict[str, float], perf: dict[str, float]) -> None:
        values, self._noted = {**values, **{name: float(value) for name, value in self._noted.items()}}, {}
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        self.table.add(_words(step, values))
        if perf:
            self.perf.add(_words(step, perf))
        told = {**values, **{ALIASES[name]: value for name, value in values.items() if name in ALIASES}, **perf}
        self.record.add({"step": step, "time": round(time.time(), 3), **told})
        if self.tell is not None:
            self.tell(step, told)


def _words(step: int, values: Mapping[str, float]) -> dict[str, str]:
    return {"step": str(step), **{name: repr(value) for name, value in values.items()}}
