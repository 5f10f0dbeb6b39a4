"""The rows about gates, one detector at a time: what each attack and view left, in a table and in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.detection import AT_FPR, AUC, FALSE_ALARMS, RATE, REFUSING, rate_at
from eval.results import WORST, Result
from eval.tables import Threat, final_steps, main_threats, percent, plain, threat_name
from modules.views import Trait, View, is_view

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

TOLD = "5"  # the false-positive rate in percent that words and tables tell of


@dataclass(frozen=True)
class Line:
    """What a gate detects of one attack through one view, or in the worst case; None where it was not measured."""

    attack: str
    view: str
    auc: Result | None
    rate: Result | None
    at_fpr: Result | None
    refusing: Result | None


@dataclass(frozen=True)
class Detector:
    """A defence's gate inside one threat, at the encoder's last step.

    Attributes:
        task, dataset, norm, eps, encoder, defense, step: as in ``Result``.
        false_alarms: share of clean images that the gate flags.
        at_fpr: share of clean images beyond the threshold that 5 % of the tuning images lie beyond.
        accepted: clean accuracy where a flagged image counts as wrong.
        lines: attacks and views, as they were tried.
        worst: the lowest number of each column, over the lines; ``refusing`` image by image.
    """

    task: str
    dataset: str
    norm: str
    eps: float
    encoder: str
    defense: str
    step: int
    false_alarms: Result | None
    at_fpr: Result | None
    accepted: Result | None
    lines: tuple[Line, ...]
    worst: Line

    @property
    def name(self) -> str:
        """``CLIP + likelihood_gate``."""
        return f"{self.encoder} + {self.defense}"

    @property
    def threat(self) -> Threat:
        """Detectors with an equal threat belong into one table."""
        return self.task, self.dataset, self.norm, self.eps

    def lowest(self, value: Callable[[Line], Result | None], trait: Trait | None = None) -> Line | None:
        """The line with the smallest of a column, of views with a trait or of all; None where nothing was measured."""
        lines = [line for line in self.lines if trait is None or is_view(line.view, trait)]
        there = [(found.value, line) for line in lines if (found := value(line))]
        return min(there, key=lambda pair: pair[0])[1] if there else None

    @property
    def caution(self) -> str:
        """Why the worst case says nothing about an attacker who knows the detector; empty if it does."""
        measured = [line.auc for line in self.lines if line.auc]
        if any(row.artefact for row in measured):
            return f"artefact: {next(row.artefact for row in measured if row.artefact)}"
        return "" if any(line.view == View.gate and line.auc for line in self.lines) else "nobody kept the gate shut"


def detectors(rows: Sequence[Result]) -> list[Detector]:
    """Every gate that was measured, inside the main threat of each data set."""
    steps, threats = final_steps(rows), main_threats(rows)
    last = [row for row in rows if row.step == steps[row.task, row.dataset, row.encoder]]
    found = []
    for threat in threats:
        task, dataset, norm, eps = threat
        here = [row for row in last if (row.task, row.dataset) == (task, dataset)]
        attacked = [row for row in here if (row.norm, row.eps) == (norm, eps) and _about_detection(row)]
        for encoder, defense in dict.fromkeys((row.encoder, row.defense) for row in attacked):
            mine = [row for row in attacked if (row.encoder, row.defense) == (encoder, defense)]
            clean = {
                row.metric: row
                for row in here
                if (row.encoder, row.defense, row.attack) == (encoder, defense, "none") and _about_detection(row)
            }
            tried = dict.fromkeys((row.attack, row.view) for row in mine if row.attack != WORST)
            found.append(
                Detector(
                    *(*threat, encoder, defense, mine[0].step),
                    false_alarms=clean.get(FALSE_ALARMS),
                    at_fpr=clean.get(f"{FALSE_ALARMS}{AT_FPR}{TOLD}"),
                    accepted=clean.get("clean" + REFUSING),
                    lines=tuple(_line(mine, attack, view) for attack, view in tried),
                    worst=_line(mine, WORST, WORST),
                )
            )
    return found


def _line(rows: Iterable[Result], attack: str, view: str) -> Line:
    mine = {row.metric: row for row in rows if (row.attack, row.view) == (attack, view)}
    columns = (AUC, RATE, rate_at(TOLD), "robust" + REFUSING)
    return Line(attack, view, *(mine.get(metric) for metric in columns))


def _about_detection(row: Result) -> bool:
    return row.metric.startswith("detection_") or row.metric.endswith(REFUSING)


def without_detection(rows: Iterable[Result]) -> list[Result]:
    """The rows about anything else."""
    return [row for row in rows if not _about_detection(row)]


def in_words(detector: Detector) -> list[str]:
    """What the gate detects past itself, what in the worst case, and what refusing the flagged leaves."""
    worst, past = detector.lowest(lambda line: line.auc), detector.lowest(lambda line: line.auc, "past")
    sentences = []
    if past and past.auc and past is not worst:
        sentences.append(f"Images attacked past the gate are told from clean ones with an AUC of {_area(past.auc)}.")
    if worst and worst.auc:
        sentences.append(
            f"The lowest AUC is {_area(worst.auc)}, of {worst.attack} through the {worst.view} view"
            f"{_chance(worst.auc)}."
        )
    rated = detector.lowest(lambda line: line.at_fpr)
    if rated and rated.at_fpr and detector.at_fpr:
        at_best = f" ({percent(past.at_fpr.value)} % past the gate)" if past and past.at_fpr else ""
        sentences.append(
            f"At the threshold that {TOLD} % of the clean tuning images lie beyond ({percent(detector.at_fpr.value)} % "
            f"of the clean images here), it flags as little as {percent(rated.at_fpr.value)} % of attacked images"
            f"{at_best}: {rated.attack} through the {rated.view} view."
        )
    if detector.accepted and detector.worst.refusing:
        sentences.append(
            f"Where flagged images get no answer, {percent(detector.accepted.value)} % of the clean images get a right "
            f"one, and {percent(detector.worst.refusing.value)} % also stay right or are refused under every attack."
        )
    if detector.caution:
        sentences.append(f"This is no statement about an attacker who knows the gate ({detector.caution}).")
    return sentences


def _area(row: Result) -> str:
    return f"{row.value:.2f} ({row.low:.2f}–{row.high:.2f})"


def _chance(row: Result) -> str:
    if row.high < 0.5:
        return ": attacked images look cleaner than clean ones"
    return ": no better than chance" if row.low <= 0.5 else ""


def detection_table(rows: Sequence[Result]) -> Table | None:
    """What gates detect, for the terminal; None where there is no gate.  Names are inert."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = detectors(rows)
    if not found:
        return None
    title = f"detection: AUC, 95 % interval; % flagged at {TOLD} % false alarms"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("defence", overflow="fold")
    for name in ("view", "attack"):
        table.add_column(name, no_wrap=True)
    for name in ("AUC", "flagged", "right or\nrefused"):
        table.add_column(name, justify="right", no_wrap=True)
    for threat in dict.fromkeys(detector.threat for detector in found):
        table.add_section()
        table.add_row(Text(plain(f"{threat[1]}, {threat_name(*threat[2:])}"), style="italic"))
        for detector in (d for d in found if d.threat == threat):
            for line in (*detector.lines, detector.worst):
                first, last = line is detector.lines[0], line is detector.worst
                said = Text(plain(detector.name) if first else "")
                if last and detector.caution:
                    said.append(f"! {plain(detector.caution)}", style="magenta")
                style = "bold" if last and not detector.caution else ""
                names = (line.view, "" if last else line.attack)
                table.add_row(said, *(Text(plain(name)) for name in names), *_cells(line, style))
    return table


def _cells(line: Line, style: str) -> list[Text]:
    from rich.text import Text

    auc = Text("–")
    if line.auc is not None:
        auc = Text().append(f"{line.auc.value:.2f}", style=style)
        auc.append(f" {line.auc.low:.2f}–{line.auc.high:.2f}", style="dim")
    return [auc, *(Text(percent(row.value) if row else "–", style=style) for row in (line.at_fpr, line.refusing))]
