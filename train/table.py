"""Files of a run that grow by a line a step: readable at any moment, and cut back where the run goes on earlier."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from configs.files import write_atomically


class GrowingTable:
    """A CSV file whose first column is ``step``; a column that comes later has blanks before.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path, /) -> None:
        self.path = path
        self._names: list[str] = []

    def keep(self, until: int) -> None:
        """Drop what a run that goes on after a step will write anew; 0 drops everything."""
        names, rows = self._read() if until else ([], [])
        self._names = names
        self._write([row for row in rows if int(row["step"]) <= until])

    def rows(self) -> list[dict[str, str]]:
        """The lines."""
        return self._read()[1]

    def add(self, row: Mapping[str, str]) -> None:
        """Add a line."""
        if set(row) <= set(self._names):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._names, restval="").writerow(row)
            return
        rows = self.rows()
        names = dict.fromkeys([*self._names, *row])
        self._names = sorted(names, key=lambda name: name.startswith("val/"))  # what is in every line comes first
        self._write([*rows, row])

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        if not self.path.is_file():
            return [], []
        reader = csv.DictReader(_whole_lines(self.path))
        rows = [row for row in reader if (row["step"] or "").isdigit() and None not in (*row, *row.values())]
        return list(reader.fieldnames or ()), rows

    def _write(self, rows: list[Mapping[str, str]] | list[dict[str, str]]) -> None:
        if not rows:
            self._names = []
            self.path.unlink(missing_ok=True)
            return
        buffer = io.StringIO()
        table = csv.DictWriter(buffer, self._names, restval="")
        table.writeheader()
        table.writerows(rows)
        write_atomically(self.path, buffer.getvalue())


class GrowingRecord:
    """A file of JSON objects, one a line, each with its ``step``; a number that is not finite becomes null.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path, /) -> None:
        self.path = path

    def keep(self, until: int) -> None:
        """Drop what a run that goes on after a step will write anew; 0 drops everything."""
        lines = _whole_lines(self.path) if until and self.path.is_file() else []
        kept = [line for line in lines if _step(line) <= until]
        if kept:
            write_atomically(self.path, "".join(line + "\n" for line in kept))
        else:
            self.path.unlink(missing_ok=True)

    def add(self, values: Mapping[str, float]) -> None:
        """Add a line."""
        said = {name: value if isfinite(value) else None for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file but for a last one that was cut short."""
    return path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
