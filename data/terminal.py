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
    """Return the rows of a table as lines: the first cell, and below it a ``name: value`` for every other.

    A row of nothing but a first cell is a heading, and bears no name.
    """
    console = Console()
    lines: list[Text] = [_text(console, table.title)] if table.title else []
    names = [_line(console, column.header) if table.show_header else Text() for column in table.columns]
    for row in zip_longest(*(list(column.cells) for column in table.columns), fillvalue=""):
        values = [_line(console, cell) for cell in row]
        heading = len(values) > 1 and not any(value.plain.strip() for value in values[1:])
        for number, (name, value) in enumerate(zip(names, values, strict=True)):
            if value.plain.strip():
                said = Text.assemble(name, ": ") if name.plain and not heading else Text()
                lines.append(Text.assemble("  " if number else "", said, value, overflow="fold"))
    return Group(*lines)


def _line(console: Console, cell: Any) -> Text:
    return Text(" ").join(_text(console, cell).split())


def _text(console: Console, cell: Any) -> Text:
    return cell if isinstance(cell, Text) else console.render_str(cell) if isinstance(cell, str) else Text(str(cell))
