"""Two evaluations or scorecards on the same images, side by side: from two folders to a sentence and a table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.files import ConfigError, write_atomically
from eval.compare import Comparison, compare
from eval.score_words import listed
from eval.standing import Standing, paired, read_standing
from eval.tables import percent, plain, points

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Versus:
    """Two standings on one data set, compared clean and in their worst cases.

    Attributes:
        first: one.
        second: the other.
        names: of the two, never alike.
        clean: compared without an attack.
        worst: compared in the per-image worst case.
        cautions: what speaks against reading the comparison as one of robustness.
    """

    first: Standing
    second: Standing
    names: tuple[str, str]
    clean: Comparison
    worst: Comparison
    cautions: list[str]

    @property
    def sentence(self) -> str:
        """The worst cases compared, in words."""
        return self.worst.in_words(*self.names)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        sides = [
            {"name": name, "folder": str(s.folder), "defense": s.defense, "attacks": list(s.attacks), "doubt": s.doubt}
            for name, s in zip(self.names, (self.first, self.second), strict=True)
        ]
        return {
            "dataset": self.first.dataset,
            "threat": self.first.threat,
            "first": sides[0],
            "second": sides[1],
            "sentence": self.sentence,
            "cautions": self.cautions,
            "clean": _values(self.clean),
            "worst": _values(self.worst),
        }


def _values(found: Comparison) -> dict[str, Any]:
    return {**asdict(found), "difference": found.difference._asdict(), "test": found.test._asdict()}


def run_compare(first: Path, second: Path, defense: str | None, out: Path | None) -> None:
    """Print how two runs compare; with ``out``, write ``comparison.json`` and a page there.

    Args:
        first: folder of an evaluation or a scorecard.
        second: another, or the same with other defences.
        defense: one name for both, or two with a comma between them.
        out: folder.

    Raises:
        ConfigError: a folder without outcomes, no such defence, or runs that are not about the same images.
    """
    from data.folder_lock import locked_folder
    from data.terminal import terminal

    found = compare_runs(first, second, defense)
    console = terminal()
    for versus in found:
        console.print(versus.sentence, markup=False, highlight=False)
        for caution in versus.cautions:
            console.print(f"! {caution}", style="magenta", markup=False, highlight=False)
        console.print(_table(versus))
    if out is not None:
        with locked_folder(out):
            print(f"comparison: {_write(out, found)}")


def compare_runs(first: Path, second: Path, defense: str | None = None) -> list[Versus]:
    """The comparison of two folders on every data set that they share.

    Raises:
        ConfigError: as ``run_compare``.
    """
    wanted = defense.split(",") if defense is not None else [None]
    if len(wanted) > 2 or "" in wanted:
        raise ConfigError(f"--defense {defense} names no one or two defences; say ttc, or none,ttc")
    pairs = paired(read_standing(first, wanted[0]), read_standing(second, wanted[-1]))
    return [_versus(a, b) for a, b in pairs]


def _versus(first: Standing, second: Standing) -> Versus:
    try:
        clean, worst = compare(first.clean, second.clean), compare(first.worst, second.worst)
    except ValueError as error:
        raise ConfigError(f"{first.folder} and {second.folder}, {first.dataset}: {plain(error)}") from error
    names = first.name, second.name
    if names[0] == names[1]:
        places = [plain(s.folder) for s in (first, second)]
        names = f"{names[0]} ({places[0]})", f"{names[1]} ({places[1]})"
        if names[0] == names[1]:
            raise ConfigError(f"{places[0]} would be compared with itself; name two runs, or two defences of this one")
    return Versus(first, second, names, clean, worst, _cautions(first, second, names))


def _cautions(first: Standing, second: Standing, names: tuple[str, str]) -> list[str]:
    sides = list(zip(names, (first, second), strict=True))
    found = [f"the worst case of {name} is no robustness ({side.doubt})" for name, side in sides if side.doubt]
    for (name, side), (_, other) in (sides, sides[::-1]):
        more = [attack for attack in side.attacks if attack not in other.attacks]
        if more:
            found.append(f"only {name} met {listed(more)}: the worst cases are not over the same attacks")
    return found


def _table(versus: Versus) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{versus.first.dataset}, {versus.first.threat}: accuracy in %, the same {versus.worst.n:,} images"
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("")
    for head in versus.names:
        table.add_column(Text(head), justify="right", overflow="fold")
    for head in ("difference", "only\nfirst", "only\nsecond", "McNemar\np"):
        table.add_column(Text(head), justify="right", no_wrap=True)
    for name, cells in rows_of(versus):
        table.add_row(Text(name), *(Text(cell.replace(" (", "\n(")) for cell in cells))
    return table


def rows_of(versus: Versus) -> list[tuple[str, list[str]]]:
    """The clean and the worst-case line of a table, as text."""
    lines = []
    for name, found in (("clean", versus.clean), ("worst case", versus.worst)):
        value, low, high = found.difference
        difference = f"{points(value)} ({points(low)} to {points(high)})"
        p = "< 0.001" if found.test.p < 0.001 else f"{found.test.p:.3f}"
        only = [f"{count:,}" for count in found.test[:2]]
        lines.append((name, [percent(found.first), percent(found.second), difference, *only, p]))
    return lines


def _write(out: Path, found: list[Versus]) -> Path:
    from eval.pages.render import render, style

    page = render(
        "comparison.html.j2",
        style=style("style.css", "scorecard.css"),
        sections=[{"versus": versus, "rows": rows_of(versus), "parts": _parts(versus.worst)} for versus in found],
    )
    write_atomically(out / "comparison.json", json.dumps([versus.to_json() for versus in found], indent=1))
    write_atomically(out / "index.html", page)
    return out / "index.html"


def _parts(found: Comparison) -> list[tuple[str, int]]:
    """How many images both, only one, or neither got right."""
    both = round(found.first * found.n) - found.test.b
    return [
        ("both", both),
        ("first", found.test.b),
        ("second", found.test.c),
        ("neither", found.n - both - found.test.b - found.test.c),
    ]
