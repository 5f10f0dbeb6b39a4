"""What a training run leaves behind while it runs: checkpoints, a table of metrics, a progress bar."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint

from configs.files import write_atomically
from eval.progress import Ticker


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


class MetricsTable(Callback):
    """Writes what the module logs to ``metrics.csv``; a run that goes on drops the lines after its checkpoint.

    Callbacks before it may ``note`` values of their own, such as a validation's.

    Args:
        path: of the table.
        every: optimizer steps between lines.
    """

    def __init__(self, path: Path, /, *, every: int) -> None:
        self.path, self.every = path, every
        self.rows: list[dict[str, str]] = []
        self._noted: dict[str, float] = {}

    @classmethod
    def of(cls, trainer: pl.Trainer) -> MetricsTable | None:
        """The trainer's table, where it has one."""
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        return next((callback for callback in callbacks if isinstance(callback, cls)), None)

    def note(self, values: dict[str, float]) -> None:
        """Add values to the line of the step that ends now; it is written in any case."""
        self._noted |= values

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the lines up to the step that the run goes on from; write what was noted before the first one."""
        step = trainer.global_step
        if step and self.path.is_file():
            with self.path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        if self._noted:
            self._add(trainer, {})

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
        last = int(self.rows[-1]["step"]) if self.rows else 0
        if step == last or (step % self.every and step not in (1, trainer.max_steps) and not self._noted):
            return
        metrics = {name: repr(float(value)) for name, value in sorted(trainer.callback_metrics.items())}
        self._add(trainer, metrics | {"lr": repr(float(trainer.optimizers[0].param_groups[0]["lr"]))})

    def _add(self, trainer: pl.Trainer, values: dict[str, str]) -> None:
        noted = {name: repr(float(value)) for name, value in self._noted.items()}
        self._noted = {}
        self.rows.append({"step": str(trainer.global_step), **values, **noted})
        if trainer.is_global_zero:
            self._write()

    def _write(self) -> None:
        found = dict.fromkeys(name for row in self.rows for name in row)
        names = sorted(found, key=lambda name: name.startswith("val/"))  # what is in every line comes first
        buffer = io.StringIO()
        table = csv.DictWriter(buffer, names, restval="")
        table.writeheader()
        table.writerows(self.rows)
        write_atomically(self.path, buffer.getvalue())


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
