"""A protocol's tables in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data.terminal import terminal
from eval.protocols.record import Line, Record
from eval.protocols.view import ProtocolTable, remarks, subject_of, tables_of
from eval.tables import percent, plain

_STYLES = {"red": "magenta", "amber": "yellow"}


def print_record(record: Record, console: Console | None = None) -> None:
    """Print a record: its tables, then what must be read with them."""
    console = console or terminal()
    console.print(Text(plain(f"{record.title} · {record.label} · {subject_of(record)}"), style="bold"))
    if record.changed:
        console.print(Text(plain(f"! not as the protocol has it: {', '.join(record.changed)}"), style="magenta"))
    for table in tables_of(record):
        console.print(_table(table))
        for text in table.words:
            console.print(Text(plain(text), style="magenta"))
        for row in table.rows:
            for note in row.notes:
                console.print(Text(plain(f"! {row.name}: {note}"), style="magenta"))
    if any(line.published for line in record.lines):
        console.print(Text("pub.: published; ² read in a document of others", style="dim"))
    print_remarks(record, console)


def print_remarks(record: Record, console: Console) -> None:
    """Print what must be read with a protocol's tables."""
    for heading, lines in remarks(record):
        console.print(Text(heading, style="bold"))
        for line in lines:
            console.print(Text(f"  {plain(line)}"))


def _table(shown: ProtocolTable) -> Table:
    title = plain(f"{shown.part}, {shown.threat}, {shown.defense}: accuracy in %, 95 % interval")
    table = Table(title=Text(title, style="italic"), box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("set", overflow="fold")
    for column in shown.columns:
        table.add_column(Text(plain(column)), justify="right")
    doubted = any(row.health for row in shown.rows)
    if doubted:
        table.add_column("gradient health", overflow="fold")
    for row in shown.rows:
        cells = [Text(plain(row.name)), *(_cell(line) for line in row.lines)]
        if doubted:
            cells.append(Text(plain(row.health), style=_STYLES.get(row.severity, "")))
        table.add_row(*cells)
    return table


def _cell(line: Line | None) -> Text:
    if line is None:
        return Text("–")
    text = Text(percent(line.value)).append(" !" if line.artefact else "", style="magenta")
    text.append(f"\n{percent(line.low)}–{percent(line.high)}\nn {line.n:,}", style="dim")
    for one in line.published:
        text.append(f"\npub. {plain(one.text)}", style="cyan")
    return text
