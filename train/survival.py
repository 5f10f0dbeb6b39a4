"""A training that is told to end ends with a checkpoint; the same command goes on from it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint

from eval.callback import EvaluateCheckpoints

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Those by which queues and clouds say that a job ends soon."""


def signals_to_heed() -> tuple[signal.Signals, ...]:
    """Return those, and SIGHUP, which a closed terminal sends, unless ``nohup`` has this process ignore it."""
    return SIGNALS if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (*SIGNALS, signal.SIGHUP)


class LeaveInTime(Checkpoint):
    """On a signal to any process, all save within a step and leave with code 0; the same command goes on.

    It looks at the signals that ``SkipBrokenSteps`` has found all processes to agree on.  A handler of SIGUSR1 that was
    there before is called too: it may ask a queue for another turn.

    Args:
        folder: of the checkpoints.
        every: steps between the checkpoints that are saved anyway; others go once there is a newer one.
    """

    def __init__(self, folder: Path, /, *, every: int) -> None:
        self.folder, self.every = folder, every
        self.asked: signal.Signals | None = None
        self.agreed = False
        self._before: dict[signal.Signals, Any] = {}
        self._extra: Path | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen; let an evaluation know who is asked, so that it need not be waited for."""
        self._before = {number: _listen(number, self._heed) for number in signals_to_heed()}
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        for callback in callbacks:
            if isinstance(callback, EvaluateCheckpoints):
                callback.asked = lambda: self.asked is not None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen in place of Lightning; know the checkpoint that the run went on from."""
        for number in self._before:
            _listen(number, self._heed)
        if trainer.global_step % self.every:
            self._extra = self._checkpoint(trainer.global_step)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        before = self._before.get(self.asked)
        if self.asked == signal.SIGUSR1 and callable(before) and not _is_lightnings(before):
            before(number, frame)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and leave where that was agreed on; comes after the checkpoints that are saved anyway."""
        step = trainer.global_step
        if trainer.is_global_zero:
            self._clear()
        if not self.agreed or step == trainer.max_steps:
            return
        if step % self.every:
            trainer.save_checkpoint(self._checkpoint(step), weights_only=False)
        trainer.strategy.checkpoint_io.teardown()  # what is still being written is on the disk now, or was not
        self.leave(trainer, f"after step {step}")

    def leave(self, trainer: pl.Trainer, when: str) -> NoReturn:
        """Say so, and end this process as a success.

        Raises:
            SystemExit: with code 0.
        """
        if trainer.is_global_zero:
            why = self.asked.name if self.asked else "a signal to another process"
            whence = self._whence(trainer.global_step)
            print(f"stopped by {why} {when}; the same command goes on {whence}", flush=True)
        raise SystemExit(0)

    def _whence(self, step: int) -> str:
        """Where a run will go on, in words: the checkpoint that was to be saved may not have been."""
        if self._checkpoint(step).is_file():
            return "from there"
        newest = max(self.folder.glob("step=*.ckpt"), default=None)
        return "from the beginning, as it has no checkpoint" if newest is None else f"from {newest.name}, the newest"

    def _clear(self) -> None:
        """Remove the checkpoint that was saved on leaving, once there is a newer one."""
        if self._extra and max(self.folder.glob("step=*.ckpt"), default=self._extra) > self._extra:
            self._extra.unlink(missing_ok=True)
            self._extra = None

    def _checkpoint(self, step: int) -> Path:
        return self.folder / f"step={step:06d}.ckpt"

    def listen_no_longer(self) -> None:
        """Give the signals back to whom they were for before."""
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if before is None else before)


def _listen(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> Any:
    return signal.signal(number, handler)


def _is_lightnings(handler: Any) -> bool:
    return type(handler).__module__.startswith("pytorch_lightning") or getattr(handler, "__module__", "").startswith(
        "pytorch_lightning"
    )
