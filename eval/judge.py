"""One encoder on one data set: its defences, what is tried on each, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from data.batches import ImageBatch
from data.images import evaluation_batches
from eval.calibration import calibrate_gate, gate_note
from eval.eot import grow_draws
from eval.examples import Example, take_examples
from eval.outcomes import CLEAN, Cell, Outcomes
from eval.plan import Plan
from eval.progress import Ticker
from eval.rows import Rows, Subject
from eval.tasks.classification import ClassificationTask
from modules import noise
from modules.attacks.base import Attack, Search
from modules.defenses.base import Defense, Undefended, View
from modules.defenses.routes import Route, route
from modules.defenses.ttc import TTC
from modules.encoders.base import ImageEncoder

ATTACK_DRAW, SCORE_DRAW = 0, 1_000_003  # the attacker never sees the noise that it is scored on

Adversarial = dict[Cell, Tensor]


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside a stranger's defence or encoder into one line that names it.

    Raises:
        ValueError: naming ``what``.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{what}: the device is out of memory; lower batch_size") from error
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{what}: {kind}{lines[0]}") from error


class Judge:
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

    def __init__(self, encoder: ImageEncoder, plan: Plan, task: ClassificationTask, subject: Subject) -> None:
        self.encoder, self.plan, self.task, self.subject = encoder, plan, task, subject
        self.device = next(encoder.parameters()).device  # in training that is not always the plan's
        task.head.to(self.device)
        self.notes: list[dict[str, Any]] = []
        self.defenses = {name: plan.defend(name, encoder, task) for name in plan.config.defenses}
        self._draws: dict[str, int] = {}
        self._neighbours: dict[str, bool] = {}
        for name, defense in self.defenses.items():
            if isinstance(defense, TTC) and defense.calibrate:
                self.notes.append(self._calibrate(name, defense))
        self.cells = list(dict.fromkeys(cell for name in self.defenses for cell in self._cells_of(name)))
        self._shared = any(cell.view == View.transfer for cell in self.cells)

    def _cells_of(self, name: str) -> Iterator[Cell]:
        eps, curve, defense = self.plan.threat.eps, self.plan.config.curve, self.defenses[name]
        yield Cell(name)
        for view in defense.views():
            for attack, planned in self.plan.attacks.items():
                if (view is View.query) != planned.attack.gradient_free:
                    continue  # a gradient is of no use to who only asks, and the other way round
                wanted = planned.views if planned.attack.gradient_free else planned.views | self._own(defense)
                if view in wanted:
                    yield Cell(name, attack, view.value, eps)
        if name in curve.defenses:
            yield from (Cell(name, curve.attack, View.adaptive.value, radius) for radius in curve.eps if radius != eps)

    @staticmethod
    def _own(defense: Defense) -> frozenset[View]:
        """Views that are taken whatever the recipe says: the bare encoder has no other."""
        return frozenset({View.adaptive}) if isinstance(defense, Undefended) else frozenset()

    def _calibrate(self, name: str, defense: TTC) -> dict[str, Any]:
        """Set a gate on the tuning split, against the first attack through the bare encoder."""
        assert self.task.tuning is not None
        gate = calibrate_gate(
            defense,
            self.task.classifier(self.encoder),
            next(iter(self.plan.attacks.values())).attack,
            (b.to(self.device) for b in evaluation_batches(self.task.tuning, self.plan.config.batch_size)),
            lambda batch: self.named(batch, ATTACK_DRAW),
        )
        return gate_note(self.subject.encoder, name, gate)

    def named(self, batch: ImageBatch, draw: int) -> Any:
        """The noise scope of a batch's samples."""
        keys = noise.keys_of(batch.key, device=batch.x.device)
        return noise.samples(keys, seed=self.plan.config.seed, draw=draw)

    def work_of(self, images: int) -> int:
        """Progress units of so many images."""
        return images * len(self.cells)

    def draws_of(self, name: str) -> int:
        """Draws of the noise that an attacker of this defence averages over; grown once where the recipe says so."""
        if self.plan.config.eot_draws:
            return self.plan.config.eot_draws
        if name not in self._draws:
            batch = next(self.task.whole_batches(16)).to(self.device)
            target = self.task.classifier(self.defenses[name].differentiable())
            with self.named(batch, ATTACK_DRAW), blamed(f"growing the draws of {name}"):
                grown = grow_draws(target, batch.x, batch.y)
            self._draws[name] = grown.draws
            self.notes.append(grown.note(self.subject.encoder, name))
        return self._draws[name]

    @torch.no_grad()
    def logits(self, defense: ImageEncoder, batch: ImageBatch, x: Tensor, draw: int = 0) -> Tensor:
        """[B, K] logits behind a defence, with noise that no attacker has seen."""
        with self.named(batch, SCORE_DRAW + draw), blamed(type(defense).__name__):
            logits = defense.logits(x, partial(self._head, type(defense).__name__))
            if logits.shape != (len(x), len(self.task.head.classes)) or not torch.isfinite(logits).all():
                expected = [len(x), len(self.task.head.classes)]
                raise ValueError(f"returned logits {list(logits.shape)} that are not {expected} finite numbers")
        return logits

    def _head(self, name: str, z: Tensor) -> Tensor:
        if z.dim() != 2 or z.shape[1] != self.encoder.embedding_dim:
            raise ValueError(f"returned {list(z.shape)} instead of embeddings [B, {self.encoder.embedding_dim}]")
        if not torch.isfinite(z).all():
            raise ValueError("returned embeddings that are not finite")
        return self.task.head(z)

    def right(self, defense: Defense, batch: ImageBatch, x: Tensor) -> list[list[bool]]:
        """For each draw on which this defence is scored, which images are right."""
        draws = self.plan.config.score_draws if defense.random else 1
        return [(self.logits(defense, batch, x, draw).argmax(dim=1) == batch.y).tolist() for draw in range(draws)]

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
                part.seconds[cell], part.notes[cell] = time.perf_counter() - begin, notes
                adversarial[cell] = x[: self.plan.config.examples].clone()  # a view would keep the whole batch
                keep(part)
            ticker.advance(len(batch))
        return adversarial

    def _before(self, cell: Cell, part: Outcomes) -> list[Cell]:
        """The cells whose fallen images a cascade leaves out here: of this view; where nobody's gradient is, of all."""
        if not self.plan.config.cascade:
            return []
        own = [c for c in part.draws if (c.defense, c.eps) == (cell.defense, cell.eps) and c.attack != CLEAN]
        return [Cell(cell.defense), *(c for c in own if cell.view in (c.view, View.query))]

    def _cumulated(self, cell: Cell, right: list[list[bool]], part: Outcomes) -> list[list[bool]]:
        if cell.attack == CLEAN or not self._before(cell, part):
            return right
        earlier = part.per_draw(self._before(cell, part))
        return [[a and b for a, b in zip(*flags, strict=True)] for flags in zip(right, earlier, strict=True)]

    def _attack(
        self, cell: Cell, batch: ImageBatch, static: dict[str, Tensor], part: Outcomes
    ) -> tuple[Tensor, list[str]]:
        """The adversarial images of a cell; those of the bare encoder are made once, of all images, and shared."""
        defense, view = self.defenses[cell.defense], View(cell.view)
        at_eps = cell.eps == self.plan.threat.eps
        bare = view is View.transfer or (isinstance(defense, Undefended) and view is View.adaptive and at_eps)
        if bare and cell.attack in static:
            return static[cell.attack], []
        planned = self.plan.attacks[cell.attack].attack
        attack: Attack = planned if at_eps else self.plan.at(cell.eps, cell.attack)
        if bare and self._shared:
            static[cell.attack], notes = self._run(Route((self.encoder,), faithful=True), attack, batch, cell, False)
            return static[cell.attack], notes
        known = self._candidates(cell, batch, static)
        whole = self._coupled(cell.defense, batch)
        standing = torch.tensor(self._standing(cell, part) if not whole else [True] * len(batch))
        x_adv = batch.x.clone()
        if not standing.any():
            return x_adv, []
        few = batch if standing.all() else batch.select(standing)
        known = [x[standing.to(self.device)] for x in known]
        compact = not defense.random and not whole
        x_adv[standing.to(self.device)], notes = self._run(route(view, defense), attack, few, cell, compact, known)
        return x_adv, notes

    def _candidates(self, cell: Cell, batch: ImageBatch, static: dict[str, Tensor]) -> list[Tensor]:
        """What the same attack found on the bare encoder: where an attack through the defence may go on from."""
        moved = Cell(cell.defense, cell.attack, View.transfer.value, cell.eps)
        if moved not in self.cells or cell.view == View.query:
            return []
        return [self._attack(moved, batch, static, Outcomes(keys=list(batch.key)))[0]]

    def _standing(self, cell: Cell, part: Outcomes) -> list[bool]:
        """Which images an attack still works on."""
        before = self._before(cell, part)
        return part.robust(before) if before else [True] * len(part.keys)

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
        with self.named(batch, ATTACK_DRAW), blamed(f"{cell.attack} on {cell.defense} ({cell.view})"):
            search = Search(
                [self.task.classifier(look) for look in way.looks],
                batch.x,
                batch.y,
                attack.threat,
                draws=max(draws, getattr(attack, "draws", 1)),
                compact=compact,
                judge=None if way.faithful else self.task.classifier(self.defenses[cell.defense]),
                penalty=way.penalty,
                candidates=candidates,
            )
            x_adv = attack.on(search)
        assert attack.threat.contains(batch.x, x_adv).all(), "an attack left its ball or the box"
        return x_adv, search.notes

    def _coupled(self, name: str, batch: ImageBatch) -> bool:
        """Whether images of a batch change one another's results behind this defence."""
        if name not in self._neighbours:
            defense = self.defenses[name]
            if len(batch) == 1:
                return defense.group > 1
            self._neighbours[name] = defense.group > 1 or self._moved_by_neighbours(defense, batch) > 1e-3
        return self._neighbours[name]

    def _moved_by_neighbours(self, defense: Defense, batch: ImageBatch) -> float:
        """How much logits move, relative to their spread, when images are looked at alone."""
        together = self.logits(defense, batch, batch.x)
        halves = [batch.select(slice(i, None, 2)) for i in range(2)]
        alone = torch.empty_like(together)
        for i, half in enumerate(halves):
            alone[i::2] = self.logits(defense, half, half.x)
        return float((together - alone).abs().max() / together.std().clamp_min(1e-12))

    def examples(self, batch: ImageBatch) -> list[Example]:
        """Examples of a few images, attacked anew."""
        part = Outcomes(keys=list(batch.key))
        return self.show(batch, self.batch(batch, Ticker.silent(), part, lambda _: None), len(batch))

    def show(self, batch: ImageBatch, adversarial: Adversarial, count: int) -> list[Example]:
        """What the report shows of each defence: its first images under the view that hurts most."""
        few = batch.select(slice(0, count))
        return take_examples(
            few,
            {cell: x[: len(few)] for cell, x in adversarial.items() if cell.eps == self.plan.threat.eps},
            self.defenses,
            lambda defense, x: self.logits(defense, few, x).argmax(dim=1),
            lambda: self.named(few, SCORE_DRAW),
            partial(
                Example,
                encoder=self.subject.encoder,
                norm=self.plan.threat.norm,
                classes=self.task.head.classes,
            ),
        )

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
            cascade=config.cascade,
            anytime=config.stop_width > 0,
        )
