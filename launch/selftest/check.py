"""What a self-test claims, and whether it holds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from configs.files import write_atomically
from data.terminal import terminal

FILE = "selftest.json"


@dataclass(frozen=True)
class Check:
    """A claim.

    Attributes:
        name: of the claim.
        passed: it holds.
        compared: what was looked at, or what was found where it does not hold.
        seconds: that it took.
    """

    name: str
    passed: bool
    compared: str
    seconds: float | None = None


def judged(name: str, faults: Sequence[str], compared: str, seconds: float | None = None) -> Check:
    """A check that holds where no fault was found; otherwise it tells the first ones."""
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return Check(name, not faults, "; ".join(faults[:3]) + more if faults else compared, seconds)


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """A list that holds the seconds from here to the end."""
    taken: list[float] = []
    begin = time.monotonic()
    try:
        yield taken
    finally:
        taken.append(time.monotonic() - begin)


def show(title: str, checks: Sequence[Check]) -> bool:
    """Print the checks as a table; whether all hold."""
    table = Table(title=title, title_justify="left")
    for column in ("check", "", "what was compared"):
        table.add_column(column, overflow="fold")
    table.add_column("s", justify="right")
    for check in checks:
        verdict = "[green]pass[/green]" if check.passed else "[red]FAIL[/red]"
        seconds = "" if check.seconds is None else f"{check.seconds:.1f}"
        table.add_row(escape(check.name), verdict, escape(check.compared), seconds)
    terminal().print(table)
    return bool(checks) and all(check.passed for check in checks)


def write_checks(folder: Path, checks: Sequence[Check], about: dict[str, Any]) -> Path:
    """``selftest.json``: the verdict, what was run, and every check."""
    passed = bool(checks) and all(check.passed for check in checks)
    content = {"passed": passed, **about, "checks": [asdict(check) for check in checks]}
    write_atomically(folder / FILE, json.dumps(content, indent=1) + "\n")
    return folder / FILE
