"""What a benchmark found: lines of a table, ratios first, and plain values for a file."""

from __future__ import annotations

from dataclasses import dataclass, field

from launch.bench.race import Timing


@dataclass
class Record:
    """The findings of one benchmark.

    Attributes:
        name: as the command line says it.
        what: one sentence on what was compared with what.
        ratios: the findings, plain numbers by name.
        goals: what a ratio should be, in words, by the ratio's name.
        timings: seconds behind them, by the name of the case.
        rates: how many a second, where that is what one wants to know.
        facts: other numbers, by name.
    """

    name: str
    what: str
    ratios: dict[str, float] = field(default_factory=dict)
    goals: dict[str, str] = field(default_factory=dict)
    timings: dict[str, Timing] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
