"""One encoder on one data set: its defences, what is tried on each, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from data.batches import ImageBatch
from eval.adapting import SAID
from eval.answers import ATTACK_DRAW, Answers, blamed
from eval.calibration import cuts_of, set_gates
from eval.cells import ORIGINAL, cells_of
from eval.eot import grow_draws
from eval.examples import Example
from eval.outcomes import CLEAN, Cell, Outcomes
from eval.plan import Plan
from eval.prior_origin import qualifier
from eval.progress import Ticker
from eval.rechecks import Rechecks
from eval.rows import Rows, Subject
from eval.showing import shown
from eval.tasks.base import Task
from modules.attacks.base import Attack, Classifier, Search
from modules.defenses.base import Undefended, View
from modules.defenses.routes import Route, routes
from modules.encoders.base import ImageEncoder
from modules.views import is_view

GUIDES = 128  # images among which the surest of each class are looked for

Adversarial = dict[Cell, Tensor]


class Judge(Answers):
    """Tries every cell of a plan on batches of one data set.

    Attributes:
        defenses: by name.
        cells: everything that is tried, in order.
        notes: what was set or grown before anything was tried, for the report.

    Args:
        encoder: frozen.
        plan: what to do.
        task: on which data.
        subject: how the encoder is called.
    """

    def __init__(self, encoder: ImageEncoder, plan: Plan, task: Task, subject: Subject) -> None:
        encoder = task.around(encoder)
        super().__init__(encoder, plan, task)
        self.subject = subject
        self.notes: list[dict[str, Any]] = task.notes()
        self.qualifiers = self._qualifiers()
        self.original = plan.original and task.around(plan.original)
        self.defenses = {name: plan.defend(name, encoder, task) for name in plan.config.defenses}
        self._draws: dict[str, int] = {}
        self._surest: dict[str, Tensor] = {}
        self.notes += set_gates(self, self.defenses, subject.encoder)
        self.rechecks = Rechecks(self)
        self.cells = list(dict.fromkeys(c for n, d in self.defenses.items() for c in cells_of(plan, task, n, d)))
        self._shared = any(cell.view == View.transfer for cell in self.cells)
        for cell in self.cells:  # galleries are embedded here, where each has a progress bar of its own
            self.question(self._asked(cell))

    def _qualifiers(self) -> dict[str, str]:
        """What the rows of each defence must be read with: for the data's sake, and for its prior's."""
        names = [name for name in self.plan.config.defenses if self.plan.with_prior(name)]
        text = qualifier(self.encoder, self.plan, self.task, self.subject.fingerprint) if names else ""
        if text:
            self.notes.append({"title": f"{self.subject.encoder}: a prior of another encoder", "text": f"{text}."})
        told = [*self.task.qualifiers, *self._adapting()]
        whole = {name: [*told, *([text] if name in names else [])] for name in self.plan.config.defenses}
        return {name: "; ".join(filter(None, parts)) for name, parts in whole.items() if any(parts)}

    def _adapting(self) -> list[str]:
        """How a model that adapts at test time is evaluated."""
        said = SAID.get(getattr(self.encoder, "adapts", ""))
        if said:
            self.notes.append({"title": f"{self.subject.encoder} adapts", "text": f"It {said}."})
        return [said] if said else []

    def work_of(self, images: int) -> int:
        """Progress units of so many images."""
        return images * len(self.cells)

    def draws_of(self, name: str) -> int:
        """Draws of the noise that an attacker of this defence averages over; grown once where the recipe says so."""
        if self.plan.config.eot_draws:
            return self.plan.config.eot_draws
        if name not in self._draws:
            batch = next(self.task.whole_batches(16)).to(self.device)
            target = self._target(self.defenses[name].differentiable(), self.defenses[name], batch)
            with self.named(batch, ATTACK_DRAW), blamed(f"growing the draws of {name}"):
                grown = grow_draws(target, batch.x, batch.y)
            self._draws[name] = grown.draws
            self.notes.append(grown.note(self.subject.encoder, name))
        return self._draws[name]

    def batch(self, batch: ImageBatch, ticker: Ticker, part: Outcomes, keep: Callable[[Outcomes], None]) -> Adversarial:
        """Fill in the outcomes of a batch, cell by cell; adversarial images of the first few images come out.

        Args:
            batch: images.
            ticker: told of every cell.
            part: what is known of this batch already; grows.
            keep: called with ``part`` after every cell.
        """
        adversarial: Adversarial = {}
        static: dict[str, Tensor] = {}
        for cell in self.cells:
            if cell not in part.draws:
                begin = time.perf_counter()
                x, notes = (batch.x, []) if cell.attack == CLEAN else self._attack(cell, batch, static, part)
                part.draws[cell] = self._cumulated(cell, self.right(self.defenses[cell.defense], batch, x), part)
                if (scores := self.scores(self.defenses[cell.defense], batch, x)) is not None:
                    part.scores[cell] = scores
                if again := self.rechecks.of(cell, batch, x):
                    part.rechecks[cell] = again
                if measures := self.measures(self.defenses[cell.defense], batch, x):
                    part.measures[cell] = measures
                part.seconds[cell], part.notes[cell] = time.perf_counter() - begin, notes
                adversarial[cell] = x[: self.plan.config.examples].clone()  # a view would keep the whole batch
                keep(part)
            ticker.advance(len(batch))
        return adversarial

    def _before(self, cell: Cell, part: Outcomes) -> list[Cell]:
        """The cells that a cascade counts here: of this view; where nobody's gradient is followed, of all."""
        cascade = self.plan.config.cascade
        if cascade == "none" or self.defenses[cell.defense].rejects:
            return []  # who was refused has not fallen: whether an image was is no outcome
        if cell.view == View.control:
            return []  # noise is shown for itself, on every image
        own = [c for c in part.draws if (c.defense, c.eps) == (cell.defense, cell.eps) and c.attack != CLEAN]
        own = [c for c in own if c.view != View.control]
        everything = cascade == "all" or cell.view == View.query
        return [Cell(cell.defense), *(c for c in own if everything or c.view == cell.view)]

    def _cumulated(self, cell: Cell, right: list[list[bool]], part: Outcomes) -> list[list[bool]]:
        if cell.attack == CLEAN or not self._before(cell, part):
            return right
        earlier = part.per_draw(self._before(cell, part), rechecks=())
        return [[a and b for a, b in zip(*flags, strict=True)] for flags in zip(right, earlier, strict=True)]

    def _attack(
        self, cell: Cell, batch: ImageBatch, static: dict[str, Tensor], part: Outcomes
    ) -> tuple[Tensor, list[str]]:
        """The adversarial images of a cell; those of the bare encoder are made once, of all images, and shared."""
        attack, base = self.plan.at(cell.eps, cell.attack, self.task), self._base_of(cell)
        if base is not None:
            key, notes = f"{cell.attack} on {id(base)}", []
            if key not in static:
                static[key], notes = self._run(Route((base,), faithful=True), attack, batch, cell, False)
            return static[key], notes
        defense, view = self.defenses[cell.defense], View(cell.view)
        known = self._candidates(cell, batch, static)
        whole = self.coupled(cell.defense, defense, batch)
        standing = torch.tensor(self._standing(cell, part) if not whole else [True] * len(batch))
        x_adv = batch.x.clone()
        if not standing.any():
            return x_adv, []
        few = batch if standing.all() else batch.select(standing)
        known = [x[standing.to(self.device)] for x in known]
        compact = not defense.random and not whole and not attack.blind
        notes: list[str] = []
        for way in routes(view, defense):  # each goes on from what the last one found
            try:
                found, said = self._run(way, attack, few, cell, compact, known)
            except ValueError as error:
                if view is not View.parts:
                    raise
                found, said = known[-1] if known else few.x, [f"A part could not be attacked: {error}"]
            known, notes = [*known, found], notes + [note for note in said if note not in notes]
        x_adv[standing.to(self.device)] = known[-1]
        return x_adv, notes

    def _base_of(self, cell: Cell) -> ImageEncoder | None:
        """The encoder whose adversarial images serve all defences; None where a cell's are made through its own."""
        if cell.view == ORIGINAL:
            return self.original
        undefended = isinstance(self.defenses[cell.defense], Undefended) and cell.view == View.adaptive
        past = cell.view == View.transfer or (undefended and cell.eps == self.plan.threat.eps)
        return self.encoder if self._shared and past else None

    def _asked(self, cell: Cell) -> ImageEncoder:
        """Whose question an attacker answers: that of the encoder that it knows."""
        return {View.transfer.value: self.encoder, ORIGINAL: self.original}.get(cell.view) or self.defenses[
            cell.defense
        ]

    def _candidates(self, cell: Cell, batch: ImageBatch, static: dict[str, Tensor]) -> list[Tensor]:
        """What the same attack found on the bare encoder: where an attack through the defence may go on from."""
        moved = Cell(cell.defense, cell.attack, View.transfer.value, cell.eps)
        if moved not in self.cells or not is_view(cell.view, "through"):
            return []  # e.g. a release is shown as it is
        return [self._attack(moved, batch, static, Outcomes(keys=list(batch.key)))[0]]

    def _standing(self, cell: Cell, part: Outcomes) -> list[bool]:
        """Which images an attack still works on."""
        if not (before := self._before(cell, part)):
            return [True] * len(part.keys)
        if self.plan.config.cascade == "all":
            return part.robust(before, rechecks=())
        return [any(flags) for flags in zip(*part.per_draw(before, rechecks=()), strict=True)]

    def _run(
        self,
        way: Route,
        attack: Attack,
        batch: ImageBatch,
        cell: Cell,
        compact: bool,
        candidates: Sequence[Tensor] = (),
    ) -> tuple[Tensor, list[str]]:
        draws = self.draws_of(cell.defense) if way.averaged else 1
        attack, changes = attack.suited(len(self.task.classes))
        # a detector's score and some tasks' measures fall on after the first point that passes
        compact = compact and way.refused is None and not self.task.persistent
        asked = self._asked(cell)
        question = self.question(asked)
        exact = way.faithful and question.ascended(asked, batch) is None
        with self.named(batch, ATTACK_DRAW), blamed(f"{cell.attack} on {cell.defense} ({cell.view})"):
            search = Search(
                [self._target(look, asked, batch) for look in way.looks],
                batch.x,
                batch.y,
                attack.threat,
                draws=max(draws, getattr(attack, "draws", 1)),
                compact=compact,
                judge=None if exact else question.classifier(asked, batch),
                penalty=way.penalty,
                refused=way.refused,
                guides=self._guides(cell) if attack.guided else None,
                snap=attack.threat.rounded if cell.view == View.parts else None,
                candidates=candidates,
            )
            x_adv = attack.on(search)
        if not attack.threat.contains(batch.x, x_adv).all():  # also under python -O
            raise AssertionError("an attack left its ball or the box")
        return x_adv, [*(f"{cell.attack} {change}" for change in changes), *search.notes]

    def _guides(self, cell: Cell) -> Tensor:
        """[K, C, H, W] of the first images the one that is surest taken for each class; NaN where none is."""
        if cell.defense not in self._surest:
            asked = self._asked(cell)
            batch = next(self.task.whole_batches(GUIDES)).to(self.device)
            with torch.no_grad(), self.named(batch, ATTACK_DRAW), blamed(cell.defense):
                logits = self.question(asked).classifier(asked, batch)(batch.x).float()
            guides = torch.full((logits.shape[1], *batch.x.shape[1:]), torch.nan, device=batch.x.device)
            top = logits.topk(2, dim=1).values
            for row in (top[:, 0] - top[:, 1]).argsort():  # the surest last
                guides[logits[row].argmax()] = batch.x[row]
            self._surest[cell.defense] = guides
        return self._surest[cell.defense]

    def _target(self, look: ImageEncoder, asked: ImageEncoder, batch: ImageBatch) -> Classifier:
        """What an attacker ascends who looks through ``look`` at the question put to ``asked``."""
        question = self.question(asked)
        return question.ascended(look, batch) or question.classifier(look, batch)

    def examples(self, batch: ImageBatch) -> list[Example]:
        """Examples of a few images, attacked anew."""
        part = Outcomes(keys=list(batch.key))
        return self.show(batch, self.batch(batch, Ticker.silent(), part, lambda _: None), len(batch))

    def show(self, batch: ImageBatch, adversarial: Adversarial, count: int) -> list[Example]:
        """What the report shows of each defence: its first images under the view that hurts most."""
        return shown(self, batch, adversarial, count)

    def rows(self) -> Rows:
        """The writer of the rows."""
        config = self.plan.config
        return Rows(
            task=self.task.name,
            dataset=self.task.dataset,
            subject=self.subject,
            norm=self.plan.threat.norm,
            eps=self.plan.threat.eps,
            seed=config.seed,
            config=self.plan.hash,
            artefacts={name: defense.artefact for name, defense in self.defenses.items() if defense.artefact},
            qualifiers=self.qualifiers,
            cuts={name: cuts_of(self, d) for name, d in self.defenses.items() if View.gate in d.views()},
            rejecting=[name for name, defense in self.defenses.items() if defense.rejects],
            cascade=config.cascade != "none",
            anytime=config.stop_width > 0,
            resolution=self.task.resolution,
            prompts=self.task.prompts,
            protocol=config.protocol or self.task.protocol,
            classes=len(self.task.classes),
        )
