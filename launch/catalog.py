"""``robustclip data catalog``: which benchmark data sets are known, what is expected of them, what they need."""

from __future__ import annotations

import json
from typing import Any

from data.benchmarks.entry import Entry, Texts
from data.benchmarks.registry import entries, entry


def show_catalog(name: str | None, protocol: str | None, *, as_json: bool) -> None:
    """Print the table of the data sets of a protocol, or all that is known of one.

    Raises:
        ValueError: no such data set or protocol.
    """
    known = [entry(name)] if name else entries(protocol)
    if as_json:
        print(json.dumps([described(one) for one in known], indent=1))
    elif name:
        _print_one(known[0])
    else:
        _print_table(known)


def described(one: Entry) -> dict[str, Any]:
    """Plain values of an entry: what a user has to know before using it."""
    size = one.native if one.space == "native" else None
    return {
        "dataset": one.id,
        "title": one.title,
        "task": one.kind,
        "also": list(one.aliases),
        "split": one.split,
        "images": one.count,
        "classes": one.classes,
        "class names": _whence(one.names) if one.tasks else None,
        "templates": _whence(one.templates) if one.tasks else None,
        "attacked at": (f"{size} px, resized inside the model" if size else "the model's size") if one.tasks else None,
        "needs": one.needs + (f", and a list of {one.ids:,} images (ids)" if one.ids else ""),
        "stands in": one.stands_in or None,
        "notes": list(one.notes),
    }


def _whence(texts: Texts) -> str:
    count = f"{texts.count} " if texts.count else ""
    if texts.origin == "listed":
        return "; ".join(texts.lines)
    where = {
        "dataset": f"{count}from the data set itself",
        "file": f"shipped ({texts.name})",
        "package": f"installed package ({texts.name})",
        "user": "from you: a classnames.txt",
    }[texts.origin]
    return where + (f", sha256 {texts.sha256[:12]}" if texts.sha256 else "")


def _print_one(one: Entry) -> None:
    for key, value in described(one).items():
        for line in value if isinstance(value, list) else [value]:
            if line is not None:
                print(f"{key + ':':13}{line}")
    if one.tasks:
        ids = ", ids: FILE" if one.ids else ""
        print(f"{'in a recipe:':13}tasks: {{{one.dataset}: {{dataset: {one.id}, shards: FOLDER{ids}}}}}")


def _print_table(known: list[Entry]) -> None:
    from rich.table import Table

    from data.terminal import terminal

    table = Table(box=None, pad_edge=False)
    for column in ("dataset", "split", "images", "classes", "attacked at", "needs"):
        numbers = column in ("images", "classes")
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for one in known:
        count, classes = (f"{number:,}" if number else "–" for number in (one.count, one.classes))
        space = f"{one.native} px" if one.space == "native" else "model's" if one.tasks else one.kind
        table.add_row(one.id, one.split, count, classes, space, described(one)["needs"])
    terminal().print(table)
