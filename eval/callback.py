"""The evaluation on every checkpoint of a training run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.utilities.seed import isolate_rng

from configs.files import ConfigError, write_atomically
from eval.evaluate import fingerprint, write_evaluation
from eval.harness import Evaluation, evaluate
from eval.plan import Plan
from eval.results import Result, read_results
from eval.rows import Subject
from eval.watch import alarm_note, watch
from modules.encoders.base import ImageEncoder
from modules.lightning.alarms import Probe

log = logging.getLogger(__name__)


class EvaluateCheckpoints(Callback):
    """Runs ``evaluate`` on the weights of every checkpoint and leaves the training untouched.

    Lightning saves at the end of a batch, after every other callback: a checkpoint is marked due when it is saved and
    evaluated at the start of the next batch, whose weights are still the checkpoint's, or at the end of training.  A
    checkpoint carries the mark with it, so that a killed run catches up when it is started again; rows of steps that
    such a run has yet to train again are dropped.

    Args:
        plan: what to do.
        out: the run's folder; rows go to ``results.jsonl``, unfinished work to ``state/``.
        name: display name of the encoder.
        encoder_of: finds the encoder in the LightningModule; every process asks, as weights may be spread over them.
        every: steps between checkpoints that are evaluated; those in between were saved on leaving.
    """

    def __init__(
        self,
        plan: Plan,
        out: Path,
        /,
        *,
        name: str,
        encoder_of: Callable[[Any], ImageEncoder] = lambda module: module.encoder,
        every: int = 1,
    ) -> None:
        self.plan, self.out, self.name, self.encoder_of, self.every = plan, out, name, encoder_of, every
        self._due: int | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse checkpoints that would never call this callback, and a prior that cannot be of all of them."""
        if self.plan.origin is not None and not self.plan.config.allow_mismatch:
            raise ConfigError(
                f"every checkpoint of a training is another encoder than the one {self.plan.origin.path} belongs to; "
                "leave evaluation.prior out, or say evaluation.allow_mismatch=true"
            )
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(callback, ModelCheckpoint) and callback.save_weights_only:
                raise ConfigError("evaluation of checkpoints needs whole checkpoints; set save_weights_only=False")

    def state_dict(self) -> dict[str, Any]:
        """Saved with a checkpoint: the checkpoint itself is due."""
        return {"due": self._due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the checkpoint that training resumes from, in case it was not evaluated to the end."""
        self._due = state_dict["due"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop rows of checkpoints after the one that training goes on from: their weights are trained anew."""
        file = self.out / "results.jsonl"
        if not trainer.is_global_zero or not file.is_file():
            return
        rows = read_results(file)
        kept = [row for row in rows if row.encoder != self.name or row.step <= trainer.global_step]
        if len(kept) < len(rows):
            write_evaluation(self.out, Evaluation(), kept)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Mark the checkpoint due, also in its own copy of this callback's state."""
        if trainer.global_step % self.every and trainer.global_step != trainer.max_steps:
            return
        self._due = trainer.global_step
        saved = checkpoint.get("callbacks", {}).get(self.state_key)
        if saved is not None:
            saved["due"] = self._due

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate what is due: no weight has moved since it was saved."""
        self._evaluate_due(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate what is due; called after the last checkpoint."""
        self._evaluate_due(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate the last checkpoint of a run that was killed after it: there is no step left to train."""
        if self._due == trainer.global_step:
            self.encoder_of(pl_module).to(self.plan.device)  # Lightning has taken it off the device by now
        self._evaluate_due(trainer, pl_module)

    def _evaluate_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step, self._due = self._due, None
        if step is None or step != trainer.global_step:
            return
        encoder = self.encoder_of(pl_module)
        if trainer.is_global_zero:
            self._evaluate(step, encoder)
        trainer.strategy.barrier("evaluation")

    def _evaluate(self, step: int, encoder: ImageEncoder) -> None:
        file = self.out / "results.jsonl"
        earlier: list[Result] = read_results(file) if file.is_file() else []
        if any(row.step == step and row.encoder == self.name for row in earlier):
            return
        subject = Subject(self.name, f"step={step:06d}.ckpt", step, fingerprint(encoder))
        state = self.out / "state" / f"step={step:06d}-{subject.fingerprint}"
        with isolate_rng():
            found = evaluate(encoder, self.plan, subject, state=state)
            found.notes = [*self._earlier_notes(step), *found.notes, *self._watched(step, encoder)]
        write_evaluation(self.out, found, earlier)

    def _watched(self, step: int, encoder: ImageEncoder) -> list[dict[str, Any]]:
        """The alarms of this checkpoint, told at once and for the report."""
        file = self.out / "watch.json"  # what the first checkpoint's gradients were like, to compare with
        earlier = Probe(**json.loads(file.read_text())) if file.is_file() else None
        found, raised = watch(encoder, self.plan, earlier)
        if found is not None and earlier is None:
            write_atomically(file, json.dumps(asdict(found)))
        for alarm in raised:
            log.warning("step %d: %s: %s", step, alarm.name, alarm.text)
        return [{**alarm_note(self.name, step, alarm), "step": step} for alarm in raised]

    def _earlier_notes(self, step: int) -> list[dict[str, Any]]:
        """The alarms of checkpoints before this one."""
        file = self.out / "notes.json"
        notes = json.loads(file.read_text()) if file.is_file() else []
        return [note for note in notes if note.get("step", step) < step]
