"""What a training really read: a line per sample, for those who want to count."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from configs.files import write_atomically
from eval.plain_text import quoted
from train.draws import state_of_generators

COLUMNS: Sequence[str] = ("step", "key", "loss", "draws")


class RecordSamples(Callback):
    """Writes ``samples-rank0.csv``: the key of every sample, and its batch's loss and state of the random generators.

    A batch is noted before the processes share the gradients of its step, so that no process can save a step that
    another one has not noted.  A run that goes on drops the lines after its checkpoint, whichever process wrote them.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path, /) -> None:
        self.folder = folder
        self._keys: tuple[str, ...] = ()
        self._file: TextIO | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what is trained anew."""
        mine = samples_file(self.folder, trainer.global_rank)
        gone = [path for path in samples_files(self.folder) if _rank_of(path) >= trainer.world_size]
        for path in [mine, *(gone if trainer.is_global_zero else [])]:
            _keep_until(path, trainer.global_step)
        self._file = mine.open("a", newline="", encoding="utf-8")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take the keys."""
        self._keys = tuple(getattr(batch, "key", ()))

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Write the lines of a batch."""
        assert self._file is not None
        rest = (repr(float(loss.detach())), state_of_generators())
        csv.writer(self._file).writerows((trainer.global_step + 1, quoted(key), *rest) for key in self._keys)
        self._file.flush()  # a killed process leaves what it has written to the system

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the file."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


def samples_file(folder: Path, rank: int) -> Path:
    """Where a process notes its samples."""
    return folder / f"samples-rank{rank}.csv"


def samples_files(folder: Path) -> list[Path]:
    """The notes of all processes, in the order of their ranks."""
    return sorted(folder.glob("samples-rank*.csv"), key=_rank_of)


def read_samples(path: Path) -> list[dict[str, str]]:
    """The lines of one process, in the order in which it read; a line that was cut off is left out."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))


def _keep_until(path: Path, step: int) -> None:
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, COLUMNS)
    table.writeheader()
    table.writerows(row for row in read_samples(path) if int(row["step"]) <= step)
    write_atomically(path, buffer.getvalue())


def _rank_of(path: Path) -> int:
    found = re.search(r"rank(\d+)", path.name)
    return int(found[1]) if found else 0
