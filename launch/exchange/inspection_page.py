"""What was found in a file of weights, for people: a table, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launch.errors import say
from launch.exchange.inspection import inspect_weights

_SHOWN = 6


def run_inspection(path: Path, *, as_json: bool) -> int:
    """Print what a file is; the exit code is 2 where loading it without care could run code.

    Raises:
        ValueError: nothing there, damaged, or of no known format.
    """
    found = inspect_weights(path)
    if as_json:
        print(json.dumps(found, indent=1))
    elif not found["would_call"]:
        _print_table(found)
    for call in found["would_call"]:
        say(f"{path} would call: {call}")
    if found["would_call"]:
        say(f"{path} was refused; nothing of it was run")
        return 2
    return 0


def _print_table(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from data.terminal import terminal

    table = Table(title=Text(f"{_printable(Path(found['path']).name)}: {found['title']}"), show_header=False)
    table.title_justify = "left"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _rows(found):
        table.add_row(label, Text(_printable(value)))
    terminal().print(table)


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    broken = found["not_finite"]
    rows = [
        ("container", f"{found['container']}, {found['bytes']:,} bytes"),
        ("sha256", found["sha256"]),
        ("tensors", f"{found['tensors']:,}, {found['parameters']:,} numbers"),
        ("types", ", ".join(f"{count} {name}" for name, count in found["dtypes"].items())),
        ("finite", "yes" if not broken else f"NO, in {len(broken)} tensors: {', '.join(broken[:_SHOWN])}"),
        ("image tower", _tower(found["image_tower"])),
        (
            "its shapes fit",
            ", ".join((found["image_tower"] or {}).get("models", [])[:_SHOWN]) or "no model that is known",
        ),
        ("text tower", f"{found['text_tower']['parameters']:,} numbers" if found["text_tower"] else "none"),
        *((f"said: {name}", json.dumps(value)) for name, value in found["metadata"].items()),
        *(("note", note) for note in found["notes"]),
    ]
    return rows if found["image_tower"] else [row for row in rows if row[0] != "its shapes fit"]


def _tower(tower: dict[str, Any] | None) -> str:
    if tower is None:
        return "none"
    sizes = {name: value for name, value in (tower["architecture"] or {}).items() if value is not None}
    said = [f"{tower['parameters']:,} numbers", *(f"{name.replace('_', ' ')} {value}" for name, value in sizes.items())]
    return ", ".join(said)


def _printable(text: str) -> str:
    """Text that cannot move the cursor or colour the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
