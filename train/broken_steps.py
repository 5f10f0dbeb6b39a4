"""One broken batch does not break the weights: its step is left out, and its samples are noted."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from configs.files import write_atomically
from modules.lightning.prior_training import PriorTraining
from modules.lightning.sharding import local
from train.finite import agreed, broken_grads, of_all, record_of
from train.spikes import LossSpikes
from train.survival import LeaveInTime

SKIPPED, SPIKES = "skipped", "spikes"
"""Folders of a run with a file for each step that was left out, and for each whose loss stood out."""


def note_name(step: int) -> str:
    """Name of the file in which a step is noted."""
    return f"step={step:06d}.json"


@dataclass
class Watch:
    """What becomes of a step that is not as it should be.

    Attributes:
        patience: how many in a row are left out before the run ends.
        spikes: knows which loss stands out; None looks for none.
        skip_spikes: leave such a step out too.
    """

    patience: int
    spikes: LossSpikes | None = None
    skip_spikes: bool = False


class SkipBrokenSteps(Callback):
    """Leaves out, on all processes, a step whose loss or gradient is not finite on any; several in a row end the run.

    Weights and averages stay as they were; the step counts, and its samples are noted in
    ``skipped/step=000012.json``.  A finite loss that stands out is noted in ``spikes/step=000012.json``, and its step
    left out where that is asked for.  DeepSpeed keeps gradients to itself, so there the first broken step ends the run.

    Args:
        folder: of the run.
        seed: of the run, noted too.
        watch: what is looked for.
        leave: told when the processes agree that one of them was asked to end.
    """

    def __init__(self, folder: Path, /, *, seed: int, watch: Watch, leave: LeaveInTime) -> None:
        self.folder, self.seed, self.watch, self.leave = folder, seed, watch, leave
        self.in_a_row = 0
        self._keys: list[str] = []
        self._losses: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Saved with a checkpoint: how many steps were left out just now, and the last losses where they count."""
        spikes = self.watch.spikes
        return {"in_a_row": self.in_a_row} | ({} if spikes is None else {"spikes": spikes.state_dict()})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.in_a_row = state_dict["in_a_row"]
        if self.watch.spikes is not None and "spikes" in state_dict:
            self.watch.spikes.load_state_dict(state_dict["spikes"])

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
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._losses.append(loss.detach() if scaler is None else loss.detach() / scaler.get_scale())

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Agree on what happens at the end of the step's last batch.

        Raises:
            ValueError: too many steps left out in a row; every process raises it.
        """
        if len(self._losses) < trainer.accumulate_grad_batches:
            return  # DeepSpeed is asked with every batch
        losses, keys = torch.stack(self._losses), self._keys
        self._keys, self._losses = [], []
        loss = not bool(losses.isfinite().all())
        scaled = trainer.precision_plugin.precision == "16-mixed"  # its scaler looks for an overflow by itself
        grad = not scaled and broken_grads([local(p.grad) for p in pl_module.parameters() if p.grad is not None])
        asked, loss, grad = agreed(trainer, self.leave.asked is not None, loss, grad)
        self.leave.agreed = asked
        stood_out = self._spiked(trainer, losses.sum(), keys)
        self.in_a_row = self.in_a_row + 1 if loss or grad or stood_out else 0
        if not self.in_a_row:
            return
        for parameter in pl_module.parameters():
            parameter.grad = None  # AdamW passes over what has none
        if loss or grad:
            self._note(trainer, {"loss": loss, "gradient": grad}, keys)
        elif self.in_a_row > self.watch.patience:
            raise ValueError(self._too_many(trainer, "had a loss far above those before", SPIKES))

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

    def _spiked(self, trainer: pl.Trainer, mine: Tensor, keys: list[str]) -> bool:
        """Whether the step's loss stands out and is to be left out; a loss that stands out is noted in any case."""
        if self.watch.spikes is None:
            return False
        losses = of_all(trainer, mine)
        loss = sum(losses) / len(losses)
        median = self.watch.spikes.median_below(loss)
        if median is None:
            return False
        step, left_out = trainer.global_step + 1, self.watch.skip_spikes
        said = {"loss": loss, "median": median, "ratio": self.watch.spikes.ratio, "left_out": left_out}
        found = record_of(trainer, step=step, seed=self.seed, keys=keys, **said, loss_by_process=losses)
        if trainer.is_global_zero:
            path = self.folder / SPIKES / note_name(step)
            write_atomically(path, json.dumps(found, indent=1))
            what = "; the step is left out" if left_out else ""
            times = f"{loss / median:.3g} times the median of those before"
            print(f"step {step}: the loss, {loss:.4g}, is {times}{what}; its samples are in {path}", flush=True)
        return left_out

    def _note(self, trainer: pl.Trainer, broken: dict[str, bool], keys: list[str]) -> None:
        step, names = trainer.global_step + 1, [name for name, is_so in broken.items() if is_so]
        found = record_of(trainer, step=step, seed=self.seed, keys=keys, broken=names)
        if trainer.is_global_zero:
            path = self.folder / SKIPPED / note_name(step)
            write_atomically(path, json.dumps(found, indent=1))
            print(f"step {step} is skipped, not finite: {' and '.join(names)}; see {path}", flush=True)
        alone = trainer.strategy.handles_gradient_accumulation
        if self.in_a_row > self.watch.patience or alone:
            why = "; ZeRO cannot leave a step out" if alone else ""
            what = f"had a {' and a '.join(names)} that is not finite{why}"
            raise ValueError(self._too_many(trainer, what, SKIPPED))

    def _too_many(self, trainer: pl.Trainer, what: str, folder: str) -> str:
        step = trainer.global_step + 1
        which = "a step" if self.in_a_row == 1 else f"{self.in_a_row} steps in a row"
        return (
            f"{which}, the last one {step}, {what}; its samples are in {self.folder / folder / note_name(step)}; "
            "lower optimizer.lr, set trainer.clip, or use another trainer.precision"
        )
