"""What a prior's training leaves for its report: the facts of the run, and its table of metrics as curves."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from eval.prior_health import Measure, measures_of

FILE = "prior.json"
Curve = list[tuple[float, float]]  # (step, value)


@dataclass(frozen=True)
class PriorRecord:
    """A prior's run.

    Attributes:
        facts: plain values: data, encoder, size, steps.
        curves: (step, value) of every column of ``metrics.csv``.
    """

    facts: dict[str, Any]
    curves: dict[str, Curve]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is measured of this prior, with the ranges that hold for it."""
        return measures_of(self.facts.get("prediction", "x0"), self.facts.get("loss", "l2"))

    @property
    def step(self) -> int:
        """Steps that are in the table."""
        return int(max((curve[-1][0] for curve in self.curves.values() if curve), default=0))

    def last(self, prefix: str = "") -> dict[str, float]:
        """The newest value of every curve whose name starts with ``prefix``."""
        return {name: curve[-1][1] for name, curve in self.curves.items() if curve and name.startswith(prefix)}


def write_record(folder: Path, facts: dict[str, Any]) -> None:
    """Write the facts of a run to its folder."""
    write_atomically(folder / FILE, json.dumps(facts, indent=1))


def has_record(folder: Path) -> bool:
    """Whether the folder is that of a prior's training."""
    return (folder / FILE).is_file()


def read_record(folder: Path) -> PriorRecord:
    """The record of a prior's run.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    file = folder / FILE
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read ({error}); train the prior again") from error
    if not isinstance(facts, dict):
        raise ConfigError(f"{file} must hold one JSON object")
    return PriorRecord(facts, read_curves(folder / "metrics.csv"))


def read_curves(path: Path) -> dict[str, Curve]:
    """(step, value) of every column of a table of metrics, numbers that are not finite left out.

    Raises:
        ConfigError: the table holds something else than numbers.
    """
    if not path.is_file():
        return {}
    curves: dict[str, Curve] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for row in reader:
            try:
                step = float(row.pop("step"))
                values = {name: float(value) for name, value in row.items() if value}
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(f"{path}:{reader.line_num} is no row of numbers: {error}") from error
            for name, value in values.items():
                if isfinite(value):
                    curves.setdefault(name, []).append((step, value))
    return curves
