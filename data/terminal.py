"""The one console that tables, lines and progress are printed with."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from rich.console import Console, ConsoleOptions, Group
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

_READABLE = 8  # characters of a column below which its cells are no longer read as words and numbers


def terminal(*, stderr: bool = False) -> Console:
    """Return a console for standard output or standard error, whose tables remain readable on a narrow terminal."""
    return _Terminal(stderr=stderr)


class _Terminal(Console):
    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render; of a table that has no room, each row is printed as lines of ``name: value``."""
        options = options or self.options
        if isinstance(renderable, Table) and not self.stderr and not _fits(self, renderable, options):
            renderable = as_lines(renderable)
        return super().render(renderable, options)


def _fits(console: Console, table: Table, options: ConsoleOptions) -> bool:
    needs = [min(_longest_word(console, column), _READABLE) for column in table.columns]
    return sum(needs) + table._extra_width <= options.max_width  # rich 15: borders and padding


def _longest_word(console: Console, column: Column) -> int:
    cells = (_text(console, cell) for cell in [column.header, *column.cells])
    return max((len(word) for cell in cells for word in cell.plain.split()), default=0)


def as_lines(table: Table) -> Group:
    """Return the rows of a table as lines: the first cell, and below it a ``name: value`` for every other."""
    console = Console()
    lines: list[Text] = [_text(console, table.title)] if table.title else []
    names = [_text(console, column.header) if table.show_header else Text() for column in table.columns]
    for row in zip_longest(*(list(column.cells) for column in table.columns), fillvalue=""):
        for number, (name, cell) in enumerate(zip(names, row, strict=True)):
            value = Text(" ").join(_text(console, cell).split())
            if value.plain.strip():
                indent = "  " if number else ""
                lines.append(Text.assemble(indent, name, ": " if name.plain else "", value, overflow="fold"))
    return Group(*lines)


def _text(console: Console, cell: Any) -> Text:
    return cell if isinstance(cell, Text) else console.render_str(cell) if isinstance(cell, str) else Text(str(cell))
