"""Runs that differ in nothing but their seed, as one number with its spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from launch.sweep.record import Line

SEED = "seed"


@dataclass(frozen=True)
class OverSeeds:
    """Some runs of one setting.

    Attributes:
        name: of the setting, ``eps=2``; ``all`` where only the seed was swept.
        settings: label -> value, without the seed.
        lines: of the runs.
    """

    name: str
    settings: dict[str, str]
    lines: list[Line]

    def spread(self, what: str) -> tuple[float, float, float, float]:
        """Mean, standard deviation over seeds (n - 1; 0 of one run), lowest and highest of ``clean`` or ``worst``."""
        values = [getattr(line, what).value for line in self.lines]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return statistics.fmean(values), deviation, min(values), max(values)


def over_seeds(lines: Sequence[Line]) -> list[OverSeeds]:
    """The lines by everything but their seed, in order."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        rest = [f"{label}={value}" for label, value in line.settings.items() if label != SEED]
        groups.setdefault(", ".join(rest) or "all", []).append(line)
    return [
        OverSeeds(name, {label: value for label, value in found[0].settings.items() if label != SEED}, found)
        for name, found in groups.items()
    ]
