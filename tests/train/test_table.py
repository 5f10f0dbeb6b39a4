"""Files that grow by a line a step."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from train.table import GrowingRecord, GrowingTable


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_line_is_added_without_writing_the_file_anew(tmp_path: Path) -> None:
    table = GrowingTable(tmp_path / "t.csv")
    table.add({"step": "1", "a": "1.0"})
    place = table.path.stat().st_ino
    table.add({"step": "2"})
    assert table.path.stat().st_ino == place and lines(table.path) == [
        {"step": "1", "a": "1.0"},
        {"step": "2", "a": ""},
    ]


def test_later_columns_come_last_and_validations_after_them(tmp_path: Path) -> None:
    table = GrowingTable(tmp_path / "t.csv")
    table.add({"step": "0", "val/b": "1"})
    table.add({"step": "1", "z": "2"})
    table.add({"step": "2", "a": "3", "val/a": "4"})
    assert table.path.read_text().split() == ["step,z,a,val/b,val/a", "0,,,1,", "1,2,,,", "2,,3,,4"]


@pytest.mark.parametrize("torn", ["3,0.12", "3", "3,1.0,9.9\r\n", ",\r\n", "nonsense\r\n"])
def test_a_line_that_was_cut_short_is_dropped(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("step,a\r\n1,1.0\r\n2,0.5\r\n" + torn, newline="")
    table = GrowingTable(path)
    table.keep(5)
    assert lines(path) == [{"step": "1", "a": "1.0"}, {"step": "2", "a": "0.5"}]
    table.add({"step": "3", "a": "0.25"})
    assert path.read_text().split() == ["step,a", "1,1.0", "2,0.5", "3,0.25"]


def test_what_will_be_written_anew_is_dropped(tmp_path: Path) -> None:
    table, record = GrowingTable(tmp_path / "t.csv"), GrowingRecord(tmp_path / "t.jsonl")
    for step in range(5):
        table.add({"step": str(step)})
        record.add({"step": step})
    with record.path.open("a") as file:
        file.write('{"step": 1, "a"')
    for file in (table, record):
        file.keep(2)
    assert [row["step"] for row in table.rows()] == ["0", "1", "2"]
    assert [json.loads(line)["step"] for line in record.path.read_text().splitlines()] == [0, 1, 2]
    for file in (table, record):
        file.keep(0)
        assert not file.path.exists()


def test_every_line_of_a_record_is_json_even_where_numbers_are_not_finite(tmp_path: Path) -> None:
    record = GrowingRecord(tmp_path / "t.jsonl")
    record.add({"step": 1, "a": float("nan"), "b": float("inf"), "c": 0.1})

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(record.path.read_text(), parse_constant=refuse) == {"step": 1, "a": None, "b": None, "c": 0.1}
