"""From per-sample outcomes to rows: clean, each attack and view, and the worst case over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from eval.detection import detection_rows
from eval.measures import measured_rows
from eval.metrics import wilson
from eval.outcomes import CLEAN, Cell, Outcomes
from eval.results import WORST, Result
from eval.stats import Estimate, confidence_sequence


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


@dataclass(frozen=True)
class Rows:
    """Writes the rows of one subject on one data set; everything but the outcomes.

    Attributes:
        task: e.g. ``classification``.
        dataset: name in the results.
        subject: on whose weights.
        norm: of the threat.
        eps: of the threat, in [0, 1] pixels.
        seed: of the evaluation.
        config: its hash.
        artefacts: labels of defences whose rows are no robustness, by their names.
        qualifiers: what the rows of a defence must be read with, by their names.
        cuts: of defences with a gate, the openings beyond which so many percent of clean tuning images lie.
        rejecting: defences whose flagged images get no answer.
        cascade: rows count earlier attacks too.
        anytime: intervals that hold wherever an evaluation stops.
        resolution: side in pixels of the images.
        prompts: hash of class names and templates.
        protocol: name and hash of the published protocol that the rows are of.
        classes: among which an image is classified; 0 where that is not known.
    """

    task: str
    dataset: str
    subject: Subject
    norm: str
    eps: float
    seed: int
    config: str
    artefacts: dict[str, str] = field(default_factory=dict)
    qualifiers: dict[str, str] = field(default_factory=dict)
    cuts: dict[str, dict[str, float]] = field(default_factory=dict)
    rejecting: list[str] = field(default_factory=list)
    cascade: bool = False
    anytime: bool = False
    resolution: int = 0
    prompts: str = ""
    protocol: str = ""
    classes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which ``from_json`` restores this."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Rows:
        """The rows' writer of a file.

        Raises:
            KeyError, TypeError: they are of something else.
        """
        return cls(**{**content, "subject": Subject(**content["subject"])})

    def of(self, outcomes: Outcomes) -> list[Result]:
        """The rows: one for each cell, and for each defence the per-sample worst case at the threat's eps.

        What its gate detects follows, where a defence has one (``eval.detection``).
        """
        rows = []
        for name in dict.fromkeys(cell.defense for cell in outcomes.draws):
            own = [cell for cell in outcomes.draws if cell.defense == name]
            attacked = self.attacks(outcomes, name)
            rows += [self._mean(outcomes, cell, [cell]) for cell in own]
            if attacked:
                rows += self._worst(outcomes, attacked)
        return rows + measured_rows(self, outcomes) + detection_rows(self, outcomes)

    def attacks(self, outcomes: Outcomes, defense: str) -> list[Cell]:
        """The cells behind a defence's worst case."""
        return [c for c in outcomes.draws if (c.defense, c.eps) == (defense, self.eps) and c.attack != CLEAN]

    def _worst(self, outcomes: Outcomes, cells: list[Cell]) -> list[Result]:
        """The worst case over attacks, views and draws; where there are several draws their mean and majority too."""
        cell = replace(cells[0], attack=WORST, view=WORST)
        rows = [self._row(outcomes, cell, cells, outcomes.robust(cells))]
        per_draw = outcomes.per_draw(cells)
        if len(per_draw) > 1:
            majority = [2 * sum(flags) > len(per_draw) for flags in zip(*per_draw, strict=True)]
            mean = self._mean(outcomes, cell, cells)
            rows.append(replace(mean, metric=mean.metric + "_mean"))
            rows.append(self._row(outcomes, cell, cells, majority, suffix="_majority"))
        return rows

    def _mean(self, outcomes: Outcomes, cell: Cell, cells: list[Cell]) -> Result:
        per_draw = outcomes.per_draw(cells)
        share = [sum(flags) / len(per_draw) for flags in zip(*per_draw, strict=True)]
        return self._row(outcomes, cell, cells, share)

    def _row(
        self, outcomes: Outcomes, cell: Cell, cells: list[Cell], right: Sequence[float], suffix: str = ""
    ) -> Result:
        metric = "clean_accuracy" if cell.attack == CLEAN else "robust_accuracy"
        estimate = Estimate(sum(right) / max(len(right), 1), *self.interval(sum(right), len(right)))
        row = self.row(cell, metric + suffix, estimate, len(right))
        return replace(row, seconds=round(sum(outcomes.seconds[c] for c in cells), 3))

    def row(self, cell: Cell, metric: str, estimate: Estimate, n: int) -> Result:
        """A row about a cell, that took no time of its own."""
        clean = cell.attack == CLEAN
        return Result(
            task=self.task,
            dataset=self.dataset,
            n=n,
            checkpoint=self.subject.checkpoint,
            step=self.subject.step,
            encoder=self.subject.encoder,
            defense=cell.defense,
            attack=cell.attack,
            view=cell.view,
            norm="none" if clean else self.norm,
            eps=cell.eps,
            metric=metric,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            seconds=0.0,
            seed=self.seed,
            config=self.config,
            artefact=self.artefacts.get(cell.defense, ""),
            qualifier=self.qualifiers.get(cell.defense, ""),
            resolution=self.resolution,
            prompts=self.prompts,
            protocol=self.protocol,
            cumulative=self.cascade and not clean and cell.defense not in self.rejecting,
        )

    def interval(self, right: float, n: int) -> tuple[float, float]:
        """The 95 % interval of a share of right images."""
        return confidence_sequence(right, n) if self.anytime else wilson(right, n)


def widest(rows: Rows, outcomes: Outcomes) -> float:
    """The width of the least certain worst case; 1 where nothing is known."""
    widths = [1.0] if not outcomes.keys else []
    for name in _defenses(outcomes):
        cells = rows.attacks(outcomes, name)
        if cells and outcomes.keys:
            low, high = rows.interval(sum(outcomes.robust(cells)), len(outcomes.keys))
            widths.append(high - low)
    return max(widths, default=0.0)


def _defenses(outcomes: Outcomes) -> Iterable[str]:
    return dict.fromkeys(cell.defense for cell in outcomes.draws)
