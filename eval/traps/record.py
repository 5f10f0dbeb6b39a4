"""Findings about the traps, as a file in a run folder that a report reads; and the bars that they have to clear."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from eval.inert import inert

FILE = "traps.json"
CLOSE = 0.02  # a headline may be above the hand-written attack by so much
FALSE_POSITIVES = 1 / 40  # of the honest ones may be red


@dataclass(frozen=True)
class Row:
    """What a scorecard claims about a trap, next to the truth.

    Attributes:
        name: of the trap.
        kind: of deception or honesty.
        broken: whether its robustness is only apparent.
        text: one sentence on it.
        threat: norm and radius, as in ``linf 4/255``.
        clean: accuracy without an attack.
        claimed: the headline.
        truth: accuracy that the hand-written attack leaves.
        red: names of red doubts.
        amber: names of amber doubts.
        seconds: of processor time that the scorecard took.
    """

    name: str
    kind: str
    broken: bool
    text: str
    threat: str
    clean: float
    claimed: float
    truth: float
    red: list[str]
    amber: list[str]
    seconds: float

    @property
    def close(self) -> bool:
        """Whether the headline is at most two points above the hand-written attack."""
        return self.claimed <= self.truth + CLOSE

    @property
    def verdict(self) -> str:
        """``caught``, ``harmless`` or ``missed`` if broken; ``believed``, ``red`` or ``too high`` if honest."""
        if self.broken:
            return "caught" if self.red else "harmless" if self.close else "missed"
        return "red" if self.red else "believed" if self.close else "too high"

    @property
    def passed(self) -> bool:
        """Whether the verdict is the right one."""
        return self.verdict in ("caught", "harmless", "believed")


@dataclass(frozen=True)
class Findings:
    """Rows of all traps that were evaluated.

    Attributes:
        rows: in the order of the catalog.
        about: budget, settings and versions.
    """

    rows: Sequence[Row]
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, *, broken: bool) -> list[Row]:
        """The broken or the honest ones, those with a wrong verdict first."""
        return sorted((row for row in self.rows if row.broken == broken), key=lambda row: row.passed)

    def failed(self, verdict: str) -> list[str]:
        """Names of the traps with a verdict."""
        return [row.name for row in self.rows if row.verdict == verdict]

    @property
    def bars(self) -> list[tuple[str, bool]]:
        """Each bar as a sentence, and whether it is cleared."""
        missed, red, high = map(self.failed, ("missed", "red", "too high"))
        broken, honest = len(self.of(broken=True)), len(self.of(broken=False))
        found = []
        if broken:
            text = f"{broken - len(missed)} of {broken} broken ones are caught, or their headline is right"
            found.append((_with_names(text, "missed", missed), not missed))
        if honest:
            text = f"{len(red)} of {honest} honest ones are falsely red"
            allowed = max(1, int(honest * FALSE_POSITIVES))
            found.append((_with_names(text, f"at most {allowed} may be", red), len(red) <= allowed))
            text = f"{len(high)} honest headlines are more than 2 points above the hand-written attack"
            found.append((_with_names(text, "too high", high), not high))
        return found

    @property
    def passed(self) -> bool:
        """Whether all bars are cleared."""
        return all(cleared for _, cleared in self.bars)


def _with_names(text: str, what: str, names: Sequence[str]) -> str:
    return f"{text} ({what}: {', '.join(names)})" if names else text


def write_findings(folder: Path, findings: Findings) -> Path:
    """Write ``traps.json`` to a folder, all or nothing."""
    content = {"about": dict(findings.about), "rows": [asdict(row) for row in findings.rows]}
    write_atomically(folder / FILE, json.dumps(content, indent=1) + "\n")
    return folder / FILE


def read_findings(folder: Path) -> Findings | None:
    """The findings of a run folder; None where it has no such file.

    Raises:
        ConfigError: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return inert(Findings([_row(entry) for entry in content["rows"]], dict(content["about"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{file} is not a file of robustclip traps ({error}); run the traps again") from None


def _row(entry: Mapping[str, Any]) -> Row:
    kinds = {"str": str, "bool": bool, "float": int | float, "list[str]": list}
    for known in fields(Row):
        value, kind = entry[known.name], kinds[str(known.type)]
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise ValueError(f"{known.name} is {value!r}")
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{known.name} is {value!r}, not a finite number")
        if isinstance(value, list) and not all(isinstance(name, str) for name in value):
            raise ValueError(f"{known.name} holds something else than names")
    return Row(**{known.name: entry[known.name] for known in fields(Row)})
