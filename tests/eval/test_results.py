"""Rows survive their files; the table is harmless in a spreadsheet."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.files import ConfigError
from eval.results import Result, read_results, write_csv, write_results

ROW = Result(
    task="classification",
    dataset="digits",
    n=20,
    checkpoint="step=000002.ckpt",
    step=2,
    encoder="R-CLIP_F",
    defense="ttc",
    attack="apgd",
    view="eot",
    norm="linf",
    eps=4 / 255,
    metric="robust_accuracy",
    value=0.1,
    low=0.03,
    high=0.3,
    seconds=1.5,
    seed=0,
    config="c0ffee",
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
rows = st.builds(replace, st.just(ROW), encoder=texts, dataset=texts, artefact=texts, eps=st.floats(0, 1))


@given(st.lists(rows, max_size=4))
def test_rows_are_read_back_from_their_file(tmp_path_factory: pytest.TempPathFactory, some: list[Result]) -> None:
    path = tmp_path_factory.getbasetemp() / "results.jsonl"
    write_results(path, some)
    assert read_results(path) == some


def test_the_key_names_the_number() -> None:
    assert ROW.key == "eval/classification/digits/ttc/apgd/eot/robust_accuracy"


def test_fields_of_later_versions_are_passed_over_and_missing_artefacts_are_none(tmp_path: Path) -> None:
    row = {**asdict(ROW), "invented_later": 1}
    del row["artefact"]
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    assert read_results(tmp_path / "results.jsonl") == [ROW]


@pytest.mark.parametrize("line", ["{", "[]", "7", "{}", '{"task": 1}', ""])
def test_a_line_that_is_no_row_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(asdict(ROW)) + f"\n{line}\n")
    with pytest.raises(ConfigError, match=r"results\.jsonl:2 is not a result row"):
        read_results(path)


def test_results_that_are_not_there_are_missed_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no results at .*; run an evaluation there first"):
        read_results(tmp_path / "results.jsonl")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")'])
def test_a_spreadsheet_runs_nothing(text: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "results.csv", [replace(ROW, encoder=text)])
    with (tmp_path / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["encoder"] == "'" + text.strip()


def test_the_table_holds_every_field_as_it_is(tmp_path: Path) -> None:
    odd = replace(ROW, encoder='a, "b"; c', value=0.0)
    write_csv(tmp_path / "results.csv", [ROW, odd])
    with (tmp_path / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [field.name for field in fields(Result)]
    assert table[1]["encoder"] == odd.encoder
    assert float(table[0]["eps"]) == ROW.eps


def test_a_failed_write_leaves_the_old_rows(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, [ROW])
    with pytest.raises(TypeError):
        write_results(path, [ROW, replace(ROW, encoder=b"not text")])  # pyright: ignore[reportArgumentType]
    assert read_results(path) == [ROW]
    assert [p.name for p in tmp_path.iterdir()] == ["results.jsonl"]
