"""Names of strangers (classes, keys, data sets, encoders) are mere text in tables, pages and terminals."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import save_file

from configs.files import ConfigError
from eval.examples import Example, write_examples
from eval.measured import measured_table
from eval.pages.inversion import Wanted, build_gallery
from eval.pages.pictures import sheets_of
from eval.plain_text import cell, quoted
from eval.protocols.record import Beside, DoubtLine, Line, PartRecord, Record, StepRecord, write_record
from eval.protocols.terminal import print_record
from eval.report import build_report
from eval.results import read_results, write_csv, write_results
from modules.perceptual.inversion import Inversion
from tests.eval.hostile import EVIL, FORMULAS, faults_of, runs_a_formula
from tests.eval.test_report import make_run, synthetic


def test_the_detectors_of_these_tests_find_what_they_look_for() -> None:
    assert {"script", "onerror=alert(1)", "x", "\x1b", "\u202e"} <= set(faults_of(f"<p>{EVIL}</p>"))
    assert not faults_of("<p><img src='data:image/png;base64,x'><a href='#a'>&lt;script&gt;</a></p>")
    for formula in FORMULAS:
        buffer = io.StringIO()
        csv.writer(buffer).writerow(["digits", formula, 0.5])
        assert runs_a_formula(buffer.getvalue()), formula
    assert not runs_a_formula("digits,'=1+1,-0.5,a-b,1e-05\n")


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_is_a_formula(formula: str) -> None:
    for made in (cell(formula), quoted(formula), quoted(quoted(formula))):
        buffer = io.StringIO()
        csv.writer(buffer).writerow(["digits", made, -0.5])
        assert not runs_a_formula(buffer.getvalue())
    assert quoted(quoted(formula)) == quoted(formula)


@pytest.mark.parametrize("text", ["digits", "CIFAR10.1", "a = b", "x-y", "me@home", "", "'=1", "Größe (5)", "ℓ∞ 4/255"])
def test_usual_cells_stay_as_they_are(text: str) -> None:
    assert cell(text) == quoted(text) == text
    assert cell(-0.5) == -0.5 and cell(None) is None and cell(True) is True


def test_results_as_csv_hold_no_formula_and_no_escape_and_json_lines_are_read_back(tmp_path: Path) -> None:
    rows = [replace(row, encoder=EVIL, defense=formula) for row, formula in zip(synthetic(), FORMULAS, strict=False)]
    write_csv(tmp_path / "results.csv", rows)
    table = (tmp_path / "results.csv").read_bytes().decode()
    assert not runs_a_formula(table) and not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", table)
    assert len(list(csv.reader(io.StringIO(table)))) == 1 + len(rows)
    write_results(tmp_path / "results.jsonl", rows)
    assert read_results(tmp_path / "results.jsonl") == rows


def _report(folder: Path, evil: str) -> str:
    rows = [replace(row, encoder=evil, artefact=evil, qualifier=evil) for row in synthetic()[:8]]
    rows += [replace(rows[0], metric="soft_accuracy"), replace(rows[0], dataset=evil, task=evil)]
    run = make_run(folder / "run", rows, extras=True)
    (run / "notes.json").write_text(json.dumps([{"title": evil, "text": evil}]))
    pictures = {name: torch.rand(2, 3, 8, 8) for name in ("clean", "adversarial")}
    said = [0, 1], [0, 1], [1, 0], None
    write_examples(run, [Example(evil, "none", evil, evil, "linf", 4 / 255, [evil, "b"], *said, pictures)])
    return build_report([run], folder / "out").read_text()


def _gallery(folder: Path, evil: str) -> str:
    x = torch.rand(1, 3, 8, 8)
    found = Inversion(x, torch.ones(1), torch.ones(1), [(0, x), (5, x)])
    facts = {evil: evil, "command": evil, "stand_in": True}
    return build_gallery(folder, [Wanted("text", evil, x[0])], [(evil, found)], facts, "told").read_text()


PAGES: dict[str, Callable[[Path, str], str]] = {"report": _report, "gallery": _gallery}


def record_of(evil: str) -> Record:
    """A protocol's record in which every word is a stranger's."""
    beside = [Beside(evil, evil, evil, evil, evil)]
    columns = ("clean", "worst", evil)
    words = (
        "name",
        "label",
        "title",
        "source",
        "encoder",
        "checkpoint",
        "precision",
        "batch",
        "resolution",
        "templates",
    )
    lists = ("model", "changed", "differs", "unknown", "known", "unplaced")
    said: dict[str, Any] = {**dict.fromkeys(words, evil), **{name: [evil] for name in lists}}
    return Record(
        **said,
        systems={evil: [evil]},
        parts=[PartRecord(evil, [evil], [evil], False)],
        missing=[[evil, evil, evil]],
        steps=[StepRecord(evil, evil, evil, "linf", 4 / 255, [evil])],
        lines=[
            Line(evil, evil, evil, "linf", 4 / 255, column, evil, 10, 0.5, 0.4, 0.6, evil, evil, [], beside)
            for column in columns
        ],
        doubts=[DoubtLine(evil, evil, evil, "linf", 4 / 255, True, [[evil, "red", evil]])],
    )


def _protocol(folder: Path, evil: str) -> str:
    rows = [replace(row, dataset=evil) for row in synthetic()]
    run = make_run(folder / "run", rows)
    write_record(run, record_of(evil))
    return build_report([run], folder / "out").read_text()


PAGES["protocol"] = _protocol


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_hostile_names_and_does_nothing_of_what_they_say(name: str, tmp_path: Path) -> None:
    page = PAGES[name](tmp_path, EVIL)
    assert not faults_of(page)
    assert "&lt;script&gt;" in page and "{{7*7}}" in page and "Content-Security-Policy" in page


def test_a_protocols_table_holds_no_formula(tmp_path: Path) -> None:
    for number, formula in enumerate([*FORMULAS, EVIL]):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_record(folder, record_of(formula))
        table = (folder / "protocol.csv").read_text()
        assert not runs_a_formula(table) and len(table.splitlines()) == 4 and "\x1b" not in table


def shown(what: Any) -> str:
    """What a terminal would get, without the colours of the tables themselves."""
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    console.print(what) if not callable(what) else what(console)
    return re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue())  # pyright: ignore[reportAttributeAccessIssue]


def test_terminals_get_no_escape_and_no_markup_of_a_stranger() -> None:
    rows = [replace(synthetic()[0], metric=name, attack="none", view="none", encoder=EVIL, task=EVIL) for name in "ab"]
    tables = [measured_table(rows), lambda console: print_record(record_of(EVIL), console)]
    for table in tables:
        text = shown(table)
        assert "\x1b" not in text and "\x07" not in text and "\x9b" not in text and "\u202e" not in text
        assert "[bold" in text.replace("\n", "") and "e.vil" in text.replace("\n", "")


def test_an_example_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    save_file({"a/clean": np.zeros((1, 3, 4, 4), np.float32)}, tmp_path / "outside.safetensors")
    (tmp_path / "run").mkdir()
    entry = {"encoder": "a", "defense": "none", "attack": "x", "prefix": "a", "file": "../outside.safetensors"}
    with pytest.raises(ConfigError, match="named by its examples.json"):
        sheets_of(tmp_path / "run", [entry])
