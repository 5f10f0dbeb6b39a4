"""``evaluate``: task x dataset x defence x attack x view, the same in the training loop and offline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.files import ConfigError
from data.batches import ImageBatch
from data.images import evaluation_batches
from eval.calibration import calibrate_gate, gate_note
from eval.examples import Example, take_examples
from eval.outcomes import CLEAN, Cell, Outcomes, read_outcomes, write_outcomes
from eval.plan import Plan
from eval.progress import Ticker
from eval.results import Result
from eval.rows import Rows, Subject
from eval.tasks.classification import ClassificationTask
from modules import noise
from modules.attacks.base import Attack
from modules.defenses.base import Undefended, View, follow
from modules.defenses.ttc import TTC
from modules.encoders.base import ImageEncoder, frozen

ATTACK_DRAW, SCORE_DRAW = 0, 1_000_003  # the attacker never sees the noise that it is scored on


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
            with Ticker(f"{subject.encoder} on {task.dataset}", judge.work_of(len(task)), quiet=quiet) as ticker:
                outcomes = _all_batches(judge, state, ticker, found)
            found.outcomes[task.dataset] = outcomes
            found.results += judge.rows(outcomes)
    return found


def _all_batches(judge: _Judge, state: Path | None, ticker: Ticker, found: Evaluation) -> Outcomes:
    outcomes = Outcomes()
    header = {"config": judge.plan.hash, "weights": judge.subject.fingerprint}
    for number, batch in enumerate(judge.task.batches(judge.plan.config.batch_size)):
        batch = batch.to(judge.device)
        wanted = judge.plan.config.examples if number == 0 else 0
        file = state / f"{judge.task.dataset}-{number:05d}.json" if state else None
        if file is not None and file.is_file():
            part = _finished(file, header, batch, judge.cells)
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


def _finished(file: Path, header: dict[str, str], batch: ImageBatch, cells: list[Cell]) -> Outcomes:
    """The outcomes of a batch that was judged before."""
    part = read_outcomes(file, **header)
    if part.keys != list(batch.key):
        raise ConfigError(f"{file} is about other images than the data now holds; delete it")
    if part.correct.keys() != set(cells):
        raise ConfigError(f"{file} is damaged (attacks are missing); delete it to evaluate those images again")
    return part


Adversarial = dict[Cell, Tensor]


class _Judge:
    """One encoder on one data set: its defences, and what is tried on each."""

    def __init__(self, encoder: ImageEncoder, plan: Plan, task: ClassificationTask, subject: Subject) -> None:
        self.encoder, self.plan, self.task, self.subject = encoder, plan, task, subject
        self.device = next(encoder.parameters()).device  # in training that is not always the plan's
        task.head.to(self.device)
        self.notes: list[dict[str, Any]] = []
        self.defenses = {name: plan.defend(name, encoder, task) for name in plan.config.defenses}
        for name, defense in self.defenses.items():
            if isinstance(defense, TTC) and defense.calibrate:
                self.notes.append(self._calibrate(name, defense))
        self.cells = list(dict.fromkeys(cell for name in self.defenses for cell in self._cells_of(name)))

    def _cells_of(self, name: str) -> Iterator[Cell]:
        eps, curve = self.plan.threat.eps, self.plan.config.curve
        yield Cell(name)
        for view in self.defenses[name].views():
            for attack, planned in self.plan.attacks.items():
                if view in planned.views or isinstance(self.defenses[name], Undefended):
                    yield Cell(name, attack, view.value, eps)
        if name in curve.defenses:
            for radius in curve.eps:
                cell = Cell(name, curve.attack, View.adaptive.value, radius)
                if radius != eps:
                    yield cell

    def _calibrate(self, name: str, defense: TTC) -> dict[str, Any]:
        """Set a gate on the tuning split, against the first attack through the bare encoder."""
        assert self.task.tuning is not None
        gate = calibrate_gate(
            defense,
            self.task.classifier(self.encoder),
            next(iter(self.plan.attacks.values())).attack,
            (b.to(self.device) for b in evaluation_batches(self.task.tuning, self.plan.config.batch_size)),
            lambda batch: self._named(batch, ATTACK_DRAW),
        )
        return gate_note(self.subject.encoder, name, gate)

    def _named(self, batch: ImageBatch, draw: int) -> Any:
        keys = noise.keys_of(batch.key, device=batch.x.device)
        return noise.samples(keys, seed=self.plan.config.seed, draw=draw)

    def work_of(self, images: int) -> int:
        """Progress units of so many images."""
        return images * len(self.cells)

    @torch.no_grad()
    def predict(self, defense: ImageEncoder, batch: ImageBatch, x: Tensor) -> Tensor:
        """[B] predicted classes, with noise that no attacker has seen."""
        with self._named(batch, SCORE_DRAW):
            z = defense.encode_image(x)
        expected = (len(x), self.encoder.embedding_dim)
        if z.shape != expected:
            raise ValueError(
                f"{type(defense).__name__} returned {list(z.shape)} instead of embeddings {list(expected)}"
            )
        if not torch.isfinite(z).all():
            raise ValueError(f"{type(defense).__name__} returned embeddings that are not finite")
        return self.task.head(z).argmax(dim=1)

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
            adversarial[cell] = x[: self.plan.config.examples].clone()  # a view would keep the whole batch
            ticker.advance(len(batch))
        return outcomes, adversarial

    def _attack(self, cell: Cell, batch: ImageBatch, static: dict[str, Tensor]) -> Tensor:
        """The adversarial images of a cell; those of the bare encoder are made once and shared."""
        defense, view = self.defenses[cell.defense], View(cell.view)
        at_eps = cell.eps == self.plan.threat.eps
        bare = view is View.transfer or (isinstance(defense, Undefended) and at_eps)
        if bare and cell.attack in static:
            return static[cell.attack]
        planned = self.plan.attacks[cell.attack].attack
        attack: Attack = planned if at_eps else self.plan.at(cell.eps, cell.attack)
        target = self.encoder if bare else follow(view, defense)
        exact = target is defense or view is View.bpda
        try:
            with self._named(batch, ATTACK_DRAW):
                x_adv = attack(
                    self.task.classifier(target),
                    batch.x,
                    batch.y,
                    draws=self.plan.config.eot_draws if view is View.eot else 1,
                    # a point just behind the boundary holds only where noise, neighbours and values stay the same
                    compact=not bare and exact and not defense.random and defense.group == 1,
                )
        except ValueError as error:
            raise ValueError(f"{cell.attack} on {cell.defense} ({view}): {error}") from error
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
            partial(
                Example,
                encoder=self.subject.encoder,
                norm=self.plan.threat.norm,
                classes=self.task.head.classes,
            ),
        )

    def rows(self, outcomes: Outcomes) -> list[Result]:
        """The rows of the outcomes."""
        return Rows(self.plan, self.task, self.subject, self.defenses).of(outcomes, self.cells)
