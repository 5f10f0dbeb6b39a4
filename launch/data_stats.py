"""``robustclip data stats``: what a data set holds, as a table or as JSON."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.data import cache_of

if TYPE_CHECKING:
    from rich.table import Table

_CLASSES = 20  # shown; --json has all
_BAR = 30
_GROUPS = 3  # of pictures that are the same, and examples of each


def show_statistics(
    shards: str, split: str, *, workers: int, as_json: bool, cache_gib: float | None, cache_dir: str | None
) -> None:
    """Print what a data set holds.

    Raises:
        ValueError: no such shards.
    """
    from data.make import make_from_sample
    from data.stats import shard_statistics

    if shards == "digits":  # as the shards that ``data make`` writes of them
        with tempfile.TemporaryDirectory() as folder:
            make_from_sample(shards, Path(folder) / shards)
            found = shard_statistics(f"{folder}/{shards}", split)
    else:
        found = shard_statistics(shards, split, workers=workers, cache=cache_of(cache_gib, cache_dir))
    if as_json:
        print(json.dumps(found, indent=1))
        return
    _print(found)


def _print(found: dict[str, Any]) -> None:
    from data.terminal import terminal
    from eval.tables import plain

    console = terminal()
    console.print(_table(_lines(found)))
    classes = sorted(found["classes"].items(), key=lambda item: -item[1])
    for title, counts in (("class", classes[:_CLASSES]), ("width to height", list(found["aspects"].items()))):
        if any(count for _, count in counts):
            console.print()
            console.print(_histogram(title, counts))
    if len(classes) > _CLASSES:
        console.print(f"and {len(classes) - _CLASSES} more classes; --json lists them", markup=False)
    for fault in found["faults"]:
        console.print(plain(fault), markup=False, highlight=False, soft_wrap=True)
    for group in found["duplicate_groups"][:_GROUPS]:
        told = "; ".join(group[:_GROUPS]) + (" ..." if len(group) > _GROUPS else "")
        console.print(plain(f"same picture: {told}"), markup=False, highlight=False, soft_wrap=True)


def _lines(found: dict[str, Any]) -> dict[str, object]:
    classes = found["classes"]
    spread = f"{min(classes.values())} to {max(classes.values())} images each" if classes else ""
    sizes = ", ".join(f"{size}: {count}" for size, count in found["sizes"].items())
    more = found["different_sizes"] - len(found["sizes"])
    return {
        "samples": found["samples"],
        "shards": f"{found['shards']} of {found['bytes'] / 1e6:,.1f} MB together",
        "pictures": f"{found['picture_bytes'] / 1e6:,.1f} MB: {_counts(found['formats'])}",
        "classes": f"{len(classes)}, {spread}" if classes else "none",
        "unlabelled": found["unlabelled"],
        "captions": found["captions"],
        "sizes": sizes + (f", and {more} more" if more > 0 else ""),
        "width": _quantiles(found["width"]),
        "height": _quantiles(found["height"]),
        "mean": "  ".join(f"{value:.4f}" for value in found["mean"]),
        "std": "  ".join(f"{value:.4f}" for value in found["std"]),
        "duplicates": found["duplicates"],
        "bad": _counts(found["bad"]) or "none",
        "refused": _counts(found["rejected"]) or "none",
    }


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _quantiles(values: list[int]) -> str:
    if not values:
        return ""
    low, few, quarter, half, most, many, high = values
    return f"{low} to {high}; half of them {quarter} to {most}, 9 of 10 {few} to {many}, median {half}"


def _table(lines: dict[str, object]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from eval.tables import plain

    table = Table(show_header=False, box=None)
    for name, value in lines.items():
        table.add_row(Text(name), Text(plain(value)))
    return table


def _histogram(title: str, counts: list[tuple[str, int]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from eval.tables import plain

    table = Table(box=None)
    table.add_column(title, max_width=40, overflow="ellipsis", no_wrap=True)
    table.add_column("images", justify="right")
    table.add_column("")
    most = max(count for _, count in counts)
    for name, count in counts:
        table.add_row(Text(plain(name)), str(count), "#" * -(-_BAR * count // most))
    return table
