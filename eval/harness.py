"""``evaluate``: task x dataset x defence x attack x view, the same in the training loop and offline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.batches import ImageBatch
from eval.examples import Example, take_examples
from eval.metrics import wilson
from eval.outcomes import CLEAN, Cell, Outcomes, read_outcomes, write_outcomes
from eval.plan import Plan
from eval.progress import Ticker
from eval.results import WORST, Result
from eval.tasks.classification import ClassificationTask
from modules import noise
from modules.attacks.base import Attack
from modules.defenses.base import View, follow
from modules.defenses.ttc import TTC
from modules.encoders.base import ImageEncoder, frozen

ATTACK_DRAW, SCORE_DRAW = 0, 1_000_003  # the attacker never sees the noise that it is scored on
UNDEFENDED = "none"


@dataclass(frozen=True)
class Subject:
    """Which weights are judged.

    Attributes:
        encoder: display name.
        checkpoint: file or name they came from.
        step: training step.
        fingerprint: hash of the weights.
    """

    encoder: str
    checkpoint: str = ""
    step: int = 0
    fingerprint: str = ""


@dataclass
class Evaluation:
    """What an evaluation found.

    Attributes:
        results: one row per number.
        outcomes: per data set, which images were right.
        examples: images to show.
        notes: what a defence calibrated, for the report.
    """

    results: list[Result] = field(default_factory=list)
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)


def evaluate(
    encoder: ImageEncoder,
    plan: Plan,
    subject: Subject,
    *,
    state: Path | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Judge an encoder.

    Every number depends on the encoder, the plan and nothing else: not on the batch size, the order or any global
    generator.  The encoder's mode and gradient flags are as before afterwards.

    Args:
        encoder: in the embedding space of the plan's heads.
        plan: what to do.
        subject: how the encoder is called in the rows.
        state: folder for finished batches; an interrupted evaluation goes on from there.
        quiet: show no progress.

    Raises:
        ConfigError: the state belongs to another evaluation or is damaged.
        ValueError: a defence or classifier returned numbers that are not finite, or images cannot be read.
    """
    found = Evaluation()
    with frozen(encoder):
        for task in plan.tasks:
            judge = _Judge(encoder, plan, task, subject)
            found.notes += judge.notes
            with Ticker(f"{subject.encoder} on {task.dataset}", judge.work(), quiet=quiet) as ticker:
                outcomes = _all_batches(judge, state, ticker, found)
            found.outcomes[task.dataset] = outcomes
            found.results += judge.rows(outcomes)
    return found


def _all_batches(judge: _Judge, state: Path | None, ticker: Ticker, found: Evaluation) -> Outcomes:
    outcomes = Outcomes()
    header = {"config": judge.plan.hash, "weights": judge.subject.fingerprint}
    for number, batch in enumerate(judge.task.batches(judge.plan.config.batch_size)):
        batch = batch.to(judge.plan.device)
        wanted = judge.plan.config.examples if number == 0 else 0
        file = state / f"{judge.task.dataset}-{number:05d}.json" if state else None
        if file is not None and file.is_file():
            part = read_outcomes(file, **header)
            if part.keys != list(batch.key):
                from configs.files import ConfigError

                raise ConfigError(f"{file} is about other images than the data now holds; delete it")
            ticker.advance(judge.work_of(len(batch)))
            if wanted:
                found.examples += judge.examples(batch.select(slice(0, wanted)), Ticker.silent())
        else:
            part, adversarial = judge.batch(batch, ticker)
            if wanted:
                found.examples += judge.show(batch, adversarial, wanted)
            if file is not None:
                write_outcomes(file, part, **header)
        outcomes.extend(part)
    return outcomes


Adversarial = dict[Cell, Tensor]


class _Judge:
    """One encoder on one data set: its defences, and what is tried on each."""

    def __init__(self, encoder: ImageEncoder, plan: Plan, task: ClassificationTask, subject: Subject) -> None:
        self.encoder, self.plan, self.task, self.subject = encoder, plan, task, subject
        self.notes: list[dict[str, Any]] = []
        self.defenses = {name: plan.defend(name, encoder, task) for name in plan.config.defenses}
        for name, defense in self.defenses.items():
            if isinstance(defense, TTC) and defense.calibrate:
                self.notes.append(self._calibrate(name, defense))
        self.cells = [cell for name in self.defenses for cell in self._cells_of(name)]

    def _cells_of(self, name: str) -> Iterator[Cell]:
        eps, curve = self.plan.threat.eps, self.plan.config.curve
        yield Cell(name)
        for view in self.defenses[name].views():
            for attack, planned in self.plan.attacks.items():
                if view in planned.views or name == UNDEFENDED:
                    yield Cell(name, attack, view.value, eps)
        if name in curve.defenses:
            for radius in curve.eps:
                cell = Cell(name, curve.attack, View.adaptive.value, radius)
                if radius != eps:
                    yield cell

    def _calibrate(self, name: str, defense: TTC) -> dict[str, Any]:
        """Set a gate on the tuning split, against the first attack through the bare encoder."""
        assert self.task.tuning is not None
        from data.images import evaluation_batches

        attack = next(iter(self.plan.attacks.values())).attack
        classifier = self.task.classifier(self.encoder)
        clean, attacked = [], []
        for batch in evaluation_batches(self.task.tuning, self.plan.config.batch_size):
            batch = batch.to(self.plan.device)
            with self._named(batch, ATTACK_DRAW):
                clean.append(batch.x)
                attacked.append(attack(classifier, batch.x, batch.y, compact=True))
        keys = noise.keys_of_pixels(torch.cat(clean))
        with noise.samples(keys, seed=self.plan.config.seed):
            gate = defense.calibrate_gate(torch.cat(clean), torch.cat(attacked))
        side = "more" if gate.direction == "above" else "less"
        return {
            "title": f"{self.subject.encoder}: the gate of {name}",
            "text": (
                f"On the tuning split, attacked images drift {side} under noise than clean ones (AUC {gate.auc:.2f}); "
                f"the gate counterattacks drifts {gate.direction} {gate.tau:.4f}."
            ),
            "histogram": {
                "title": "embedding drift under noise",
                "labels": ["clean", "attacked"],
                "values": [gate.clean.tolist(), gate.attacked.tolist()],
                "threshold": gate.tau,
                "direction": gate.direction,
                "auc": gate.auc,
            },
        }

    def _named(self, batch: ImageBatch, draw: int) -> Any:
        keys = noise.keys_of(batch.key, device=batch.x.device)
        return noise.samples(keys, seed=self.plan.config.seed, draw=draw)

    def work_of(self, images: int) -> int:
        """Progress units of a batch."""
        return images * len(self.cells)

    def work(self) -> int:
        """Progress units of the whole data set."""
        return self.work_of(len(self.task))

    @torch.no_grad()
    def predict(self, defense: ImageEncoder, batch: ImageBatch, x: Tensor) -> Tensor:
        """[B] predicted classes, with noise that no attacker has seen."""
        with self._named(batch, SCORE_DRAW):
            logits = self.task.classifier(defense)(x)
        if logits.shape != (len(x), len(self.task.head.classes)) or not torch.isfinite(logits).all():
            raise ValueError(f"{type(defense).__name__} returned logits that are not finite numbers [B, K]")
        return logits.argmax(dim=1)

    def batch(self, batch: ImageBatch, ticker: Ticker) -> tuple[Outcomes, Adversarial]:
        """Outcomes of every cell on a batch, and its adversarial images."""
        outcomes, adversarial = Outcomes(keys=list(batch.key)), {}
        static: dict[str, Tensor] = {}
        for cell in self.cells:
            begin = time.perf_counter()
            x = batch.x if cell.attack == CLEAN else self._attack(cell, batch, static)
            right = self.predict(self.defenses[cell.defense], batch, x) == batch.y
            outcomes.correct[cell] = right.tolist()
            outcomes.seconds[cell] = time.perf_counter() - begin
            adversarial[cell] = x[: self.plan.config.examples]
            ticker.advance(len(batch))
        return outcomes, adversarial

    def _attack(self, cell: Cell, batch: ImageBatch, static: dict[str, Tensor]) -> Tensor:
        """The adversarial images of a cell; those of the bare encoder are made once and shared."""
        defense, view = self.defenses[cell.defense], View(cell.view)
        at_eps = cell.eps == self.plan.threat.eps
        bare = view is View.transfer or (cell.defense == UNDEFENDED and at_eps)
        if bare and cell.attack in static:
            return static[cell.attack]
        planned = self.plan.attacks[cell.attack].attack
        attack: Attack = planned if at_eps else self.plan.at(cell.eps, cell.attack)
        target = self.encoder if bare else follow(view, defense)
        exact = target is defense or view is View.bpda
        with self._named(batch, ATTACK_DRAW):
            x_adv = attack(
                self.task.classifier(target),
                batch.x,
                batch.y,
                draws=self.plan.config.eot_draws if view is View.eot else 1,
                # a point just behind the boundary holds only where noise, neighbours and values stay the same
                compact=not bare and exact and not defense.random and defense.group == 1,
            )
        assert attack.threat.contains(batch.x, x_adv).all(), "an attack left its ball or the box"
        if bare:
            static[cell.attack] = x_adv
        return x_adv

    def examples(self, batch: ImageBatch, ticker: Ticker) -> list[Example]:
        """Examples of a few images, attacked anew."""
        return self.show(batch, self.batch(batch, ticker)[1], len(batch))

    def show(self, batch: ImageBatch, adversarial: Adversarial, count: int) -> list[Example]:
        """What the report shows of each defence: its first images under the view that hurts most."""
        few = batch.select(slice(0, count))
        return take_examples(
            few,
            {cell: x[: len(few)] for cell, x in adversarial.items() if cell.eps == self.plan.threat.eps},
            self.defenses,
            lambda defense, x: self.predict(defense, few, x),
            lambda: self._named(few, SCORE_DRAW),
            encoder=self.subject.encoder,
            classes=self.task.head.classes,
            norm=self.plan.threat.norm,
        )

    def rows(self, outcomes: Outcomes) -> list[Result]:
        """The rows of the outcomes: clean, each attack and view, and the per-sample worst case."""
        rows = []
        for name in self.defenses:
            cells = [cell for cell in self.cells if cell.defense == name]
            attacked = [c for c in cells if c.attack != CLEAN and c.eps == self.plan.threat.eps]
            rows.append(self._row(outcomes, Cell(name), [Cell(name)]))
            rows += [self._row(outcomes, c, [c]) for c in cells if c.attack != CLEAN]
            if attacked:
                rows.append(self._row(outcomes, replace(attacked[0], attack=WORST, view=WORST), attacked))
        return rows

    def _row(self, outcomes: Outcomes, cell: Cell, cells: list[Cell]) -> Result:
        clean = cell.attack == CLEAN
        robust = outcomes.robust(cells)
        low, high = wilson(sum(robust), len(robust))
        return Result(
            task=self.task.name,
            dataset=self.task.dataset,
            n=len(robust),
            checkpoint=self.subject.checkpoint,
            step=self.subject.step,
            encoder=self.subject.encoder,
            defense=cell.defense,
            attack=cell.attack,
            view=cell.view,
            norm="none" if clean else self.plan.threat.norm,
            eps=cell.eps,
            metric="clean_accuracy" if clean else "robust_accuracy",
            value=sum(robust) / max(len(robust), 1),
            low=low,
            high=high,
            seconds=round(sum(outcomes.seconds[c] for c in cells), 3),
            seed=self.plan.config.seed,
            config=self.plan.hash,
            artefact=self.defenses[cell.defense].artefact,
        )
