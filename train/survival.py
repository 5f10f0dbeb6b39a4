"""A training that is told to end ends with a checkpoint, and one broken batch does not break the weights."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch import Tensor

from configs.files import write_atomically
from modules.lightning.prior_training import PriorTraining
from modules.lightning.sharding import local
from train.finite import agreed, broken_grads, record_of

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Those by which queues and clouds say that a job ends soon."""


class LeaveInTime(Checkpoint):
    """On SIGTERM or SIGUSR1 to any process, all save within a step and leave with code 0; the same command goes on.

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

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen, in place of Lightning; know the checkpoint that the run went on from."""
        self._before = {number: _listen(number, self._heed) for number in SIGNALS}
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
        if trainer.is_global_zero:
            why = self.asked.name if self.asked else "a signal to another process"
            print(f"stopped by {why} after step {step}; the same command goes on from there", flush=True)
        raise SystemExit(0)

    def _clear(self) -> None:
        """Remove the checkpoint that was saved on leaving, once there is a newer one."""
        if self._extra and max(self.folder.glob("step=*.ckpt"), default=self._extra) > self._extra:
            self._extra.unlink(missing_ok=True)
            self._extra = None

    def _checkpoint(self, step: int) -> Path:
        return self.folder / f"step={step:06d}.ckpt"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen no longer."""
        self._stop_listening()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Listen no longer."""
        self._stop_listening()

    def _stop_listening(self) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if before is None else before)


class SkipBrokenSteps(Callback):
    """Leaves out, on all processes, a step whose loss or gradient is not finite on any; several in a row end the run.

    Weights and averages stay as they were; the step counts, and its samples are noted in
    ``skipped/step=000012.json``.  DeepSpeed keeps gradients to itself, so there the first broken step ends the run.

    Args:
        folder: of the run.
        seed: of the run, noted too.
        patience: how many in a row are left out.
        leave: told when the processes agree that one of them was asked to end.
    """

    def __init__(self, folder: Path, /, *, seed: int, patience: int, leave: LeaveInTime) -> None:
        self.folder, self.seed, self.patience, self.leave = folder, seed, patience, leave
        self.in_a_row = 0
        self._keys: list[str] = []
        self._losses: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Saved with a checkpoint: how many steps were left out just now."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.in_a_row = state_dict["in_a_row"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over from a module that would end the run at a broken loss by itself."""
        if isinstance(pl_module, PriorTraining):
            pl_module.ends_at_broken_losses = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the samples of the step."""
        self._keys += getattr(batch, "key", ())

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Note the loss of a batch of the step."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Agree on what happens at the end of the step's last batch.

        Raises:
            ValueError: too many broken steps in a row; every process raises it.
        """
        if len(self._losses) < trainer.accumulate_grad_batches:
            return  # DeepSpeed is asked with every batch
        loss = not bool(torch.stack(self._losses).isfinite().all())
        scaled = trainer.precision_plugin.precision == "16-mixed"  # its scaler looks for an overflow by itself
        grad = not scaled and broken_grads([local(p.grad) for p in pl_module.parameters() if p.grad is not None])
        asked, loss, grad = agreed(trainer, self.leave.asked is not None, loss, grad)
        self.leave.agreed = asked
        keys, self._keys, self._losses = self._keys, [], []
        self.in_a_row = self.in_a_row + 1 if loss or grad else 0
        if not self.in_a_row:
            return
        for parameter in pl_module.parameters():
            parameter.grad = None  # AdamW passes over what has none
        self._note(trainer, {"loss": loss, "gradient": grad}, keys)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what DeepSpeed stepped with, before it is saved.

        Raises:
            ValueError: its gradient was not finite.
        """
        norm = getattr(trainer.model, "get_global_grad_norm", lambda: None)()
        if norm is not None and not math.isfinite(float(norm)):
            raise ValueError(
                f"the gradient of step {trainer.global_step} is not finite; lower optimizer.lr, set trainer.clip, or "
                "use ddp or fsdp2, which leave such a step out; the newest checkpoint is from before"
            )

    def _note(self, trainer: pl.Trainer, broken: dict[str, bool], keys: list[str]) -> None:
        step = trainer.global_step + 1
        path = self.folder / "skipped" / f"step={step:06d}.json"
        found = record_of(
            trainer, step=step, seed=self.seed, broken=[n for n, is_so in broken.items() if is_so], keys=keys
        )
        if trainer.is_global_zero:
            write_atomically(path, json.dumps(found, indent=1))
        alone = trainer.strategy.handles_gradient_accumulation
        if self.in_a_row > self.patience or alone:
            which = "a step" if self.in_a_row == 1 else f"{self.in_a_row} steps in a row"
            why = "; ZeRO cannot leave a step out" if alone else ""
            raise ValueError(
                f"{which}, the last one {step}, had a {' and a '.join(found['broken'])} that is not finite{why}; its "
                f"samples are in {path}; lower optimizer.lr, set trainer.clip, or use another trainer.precision"
            )


def _listen(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> Any:
    return signal.signal(number, handler)


def _is_lightnings(handler: Any) -> bool:
    return type(handler).__module__.startswith("pytorch_lightning") or getattr(handler, "__module__", "").startswith(
        "pytorch_lightning"
    )
