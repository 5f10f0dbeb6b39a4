"""Tables remain readable whatever the width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group
from rich.table import Table

from data.terminal import terminal


def results() -> Table:
    table = Table(title="accuracy")
    for name in ("encoder", "defense", "clean", "worst"):
        table.add_column(name)
    table.add_row("R-CLIP", "none", "100.0\n80.6-100.0", "56.2")
    return table


def printed(table: object, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout", file := io.StringIO())
    terminal().print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_table_with_room_is_printed_as_rich_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    Console(file=file, width=80).print(results())
    assert printed(results(), 80, monkeypatch) == [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("wrap", [lambda table: table, lambda table: Group(table)])
def test_a_table_without_room_is_printed_as_names_and_values(wrap, monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(wrap(results()), 30, monkeypatch) == [
        *("accuracy", "encoder: R-CLIP", "  defense: none", "  clean: 100.0 80.6-100.0", "  worst: 56.2")
    ]


def test_without_room_a_heading_among_the_rows_bears_no_name_and_a_long_name_stays_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = Table()
    for name in ("encoder", "only\nfirst", "worst"):
        table.add_column(name)
    table.add_row("pets, linf 4/255")
    table.add_row("R-CLIP", "3", "56.2")
    assert printed(table, 16, monkeypatch) == [
        *("pets, linf 4/255", "encoder: R-CLIP", "  only first: 3", "  worst: 56.2")
    ]


@pytest.mark.parametrize("width", [1, 2, 5, 20])
def test_no_value_is_lost_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join("".join(printed(results(), width, monkeypatch)).split())
    assert text == "accuracyencoder:R-CLIPdefense:noneclean:100.080.6-100.0worst:56.2"
