"""What benchmarks found, as a file in a run folder that a report reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from eval.inert import inert

FILE = "bench.json"


@dataclass(frozen=True)
class Timing:
    """Seconds of one case.

    Attributes:
        median: of all rounds.
        low: quickest.
        high: slowest.
    """

    median: float
    low: float
    high: float


@dataclass
class Record:
    """The findings of one benchmark.

    Attributes:
        name: as the command line says it.
        what: one sentence on what was compared with what.
        ratios: the findings, plain numbers by name.
        goals: what a finding should be, in words, by its name.
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

    def told(self) -> list[tuple[str, str, str]]:
        """(name, value in words, goal) of all findings, ratios first."""
        found = [(name, f"{value:.2f}x") for name, value in self.ratios.items()]
        found += [(name, f"{round(value, 9) + 0.0:.3g}") for name, value in self.facts.items()]
        found += [(name, f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s") for name, rate in self.rates.items()]
        return [(name, value, self.goals.get(name, "")) for name, value in found]


@dataclass(frozen=True)
class Speed:
    """The findings of some benchmarks, and the machine that they were made on, in plain values."""

    records: Sequence[Record]
    about: Mapping[str, Any]


def speed_table(record: Record) -> Any:
    """The findings of a benchmark for the terminal, ratios first."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=record.name, caption=escape(record.what))
    table.add_column(justify="right", overflow="fold")
    table.add_column()
    table.add_column("goal")
    for told in record.told():
        table.add_row(*map(escape, told))
    for name, timing in record.timings.items():
        spread = f"{1e3 * timing.low:.1f} to {1e3 * timing.high:.1f}"
        table.add_row(escape(name), f"{1e3 * timing.median:.1f} ms", spread, style="dim")
    return table


def write_speed(file: Path, speed: Speed) -> None:
    """Write findings whole: every number under its benchmark's name, and how they are shown beside them."""
    found: dict[str, Any] = {}
    for one in speed.records:
        found[one.name] = {
            **one.ratios,
            **one.rates,
            **one.facts,
            "seconds": {name: vars(timing) for name, timing in one.timings.items()},
            "shown": {
                "what": one.what,
                "goals": one.goals,
                **{kind: list(getattr(one, kind)) for kind in ("ratios", "rates", "facts")},
            },
        }
    write_atomically(file, json.dumps({**found, "about": dict(speed.about)}, indent=1) + "\n")


def read_speed(folder: Path) -> Speed | None:
    """What the benchmarks of a run folder found; None where it has no such file.

    Raises:
        ConfigError: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        about = found.pop("about")
        return inert(Speed([_record(name, one) for name, one in found.items()], dict(about)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{file} is not what robustclip bench writes ({error}); run the benchmark again") from None


def _record(name: str, found: Mapping[str, Any]) -> Record:
    shown = found["shown"]
    goals = {str(key): str(words) for key, words in shown["goals"].items()}
    timings = {
        case: Timing(*(_number(taken[part]) for part in ("median", "low", "high")))
        for case, taken in found["seconds"].items()
    }
    ratios, rates, facts = ({key: _number(found[key]) for key in shown[kind]} for kind in ("ratios", "rates", "facts"))
    return Record(name, str(shown["what"]), ratios, goals, timings, rates, facts)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)
