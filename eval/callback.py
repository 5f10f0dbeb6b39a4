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
from eval.checkpoints import refuse_a_prior_of_one, state_of, subject_of_step
from eval.evaluate import write_evaluation
from eval.harness import Evaluation, evaluate
from eval.plan import Plan
from eval.results import Result, read_results
from eval.team import Team
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

    All processes of the training share the batches (``eval.team``), and the first one writes what one would have.

    Args:
        plan: what to do.
        out: the run's folder; rows go to ``results.jsonl``, unfinished work to ``state/``.
        name: display name of the encoder.
        encoder_of: finds the encoder in the LightningModule; every process asks, as weights may be spread over them.
        every: steps between checkpoints that are evaluated; those in between were saved on leaving.

    Attributes:
        asked: whether this process has been told to end; the evaluation then ends unfinished, and goes on next time.
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
        self._team: Team | None = None
        self.asked: Callable[[], bool] = lambda: False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse checkpoints that would never call this callback, and a prior that cannot be of all of them."""
        refuse_a_prior_of_one(self.plan, "evaluation.")
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
        self._evaluate_due(trainer, pl_module)

    def _evaluate_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step, self._due = self._due, None
        if step is None or step != trainer.global_step:
            return
        encoder = self.encoder_of(pl_module).to(trainer.strategy.root_device)  # Lightning takes it off in the end
        self._team = self._team or Team.of_all()
        self._team.asked = self.asked
        with self._team.one_end(), isolate_rng():
            self._evaluate(step, encoder, self._team)

    def _evaluate(self, step: int, encoder: ImageEncoder, team: Team) -> None:
        file = self.out / "results.jsonl"
        earlier: list[Result] = read_results(file) if team.rank == 0 and file.is_file() else []
        subject = subject_of_step(self.name, step, encoder)
        judged = any(row.step == step and row.encoder == self.name for row in earlier)
        told = team.gather({"judged": judged, "weights": subject.fingerprint})
        if told[0]["judged"]:  # as the first process has it, whose folder it is
            return
        if len({one["weights"] for one in told}) > 1:
            log.warning("step %d: the processes' weights differ; the first one judges its own, alone", step)
            if team.rank > 0:
                return
            team = Team()
        found = evaluate(encoder, self.plan, subject, state=state_of(self.out, subject), team=team)
        if team.rank == 0:
            found.notes = [*self._earlier_notes(step), *found.notes, *self._watched(step, encoder)]
            write_evaluation(self.out, found, earlier)

    def _watched(self, step: int, encoder: ImageEncoder) -> list[dict[str, Any]]:
        """The alarms of this checkpoint, told at once and for the report."""
        file = self.out / "watch.json"  # what the first checkpoint's gradients were like, to compare with
        earlier = Probe(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
        found, raised = watch(encoder, self.plan, earlier)
        if found is not None and earlier is None:
            write_atomically(file, json.dumps(asdict(found)))
        for alarm in raised:
            log.warning("step %d: %s: %s", step, alarm.name, alarm.text)
        return [{**alarm_note(self.name, step, alarm), "step": step} for alarm in raised]

    def _earlier_notes(self, step: int) -> list[dict[str, Any]]:
        """The alarms of checkpoints before this one."""
        file = self.out / "notes.json"
        notes = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        return [note for note in notes if note.get("step", step) < step]
