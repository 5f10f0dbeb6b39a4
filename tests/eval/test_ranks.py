"""What a search found is shown with marks, and what tasks measure stands in a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from configs.files import ConfigError
from eval.evaluate import write_evaluation
from eval.harness import evaluate
from eval.measured import measured, measured_table
from eval.pages.ranks import ranks_of
from eval.plan import Plan
from eval.report import build_report
from eval.results import read_results
from eval.rows import Subject
from modules.encoders.clip import CLIP

TASK = "tasks={look: {shards: digits, limit: 3, retrieval: {k: [1], blur: %s}}}"
SMALL = ("attacks={apgd: {loss: margin, steps: 2}}", "defenses={none: {}}", "examples=2")


@pytest.fixture
def run(clip: CLIP, planned: Callable[..., Plan], tmp_path: Path) -> Path:
    write_evaluation(tmp_path, evaluate(clip.image, planned(TASK % "false", *SMALL), Subject("CLIP"), quiet=True))
    (tmp_path / "env.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("")
    return tmp_path


def test_the_page_shows_what_was_found_before_and_after_and_the_numbers_beside_accuracy(run: Path) -> None:
    page = build_report([run], run / "report").read_text()
    assert page.count("nearest first, once attacked") == 2 and page.count('class="found"') == 2 * 2 * 5
    assert "Beside accuracy" in page and "average precision" in page


def test_pictures_and_marks_that_do_not_fit_are_refused(run: Path) -> None:
    (entry,) = json.loads((run / "examples.json").read_text())
    assert [len(row) for query in ranks_of(run, entry, 2) for _, row in query] == [5] * 4
    for marks in ({"before": [["relevant"] * 5]}, {"before": [["relevant"] * 4] * 2}, {"before": 3}):
        with pytest.raises(ConfigError, match="has no rankings"):
            ranks_of(run, {**entry, "marks": marks}, 2)


def test_the_table_holds_the_last_step_once(run: Path) -> None:
    rows = read_results(run / "results.jsonl")
    later = [replace(row, step=9, value=0.0) for row in rows]
    found = measured([*rows, *later])
    assert [one.metric for one in found] == ["average precision", "recall at 1"]
    assert all(one.clean.step == 9 and one.worst is not None and one.worst.attack == "worst" for one in found)
    assert measured_table([row for row in rows if row.metric.endswith("accuracy")]) is None


def test_attacks_on_the_original_encoder_have_a_column_where_there_are_any(run: Path) -> None:
    rows = [row for row in read_results(run / "results.jsonl") if row.metric == "recall_at_1"]
    assert all(one.original is None for one in measured(rows))
    (adaptive,) = (row for row in rows if row.view == "adaptive")
    past = [replace(adaptive, view="original", attack=name, value=value) for name, value in (("a", 0.5), ("b", 0.4))]
    (found,) = measured([*rows, *past])
    assert found.original is past[1]  # of what is good, the least
    alarms = [replace(row, metric="false_positive") for row in (*rows, *past)]
    (found,) = measured(alarms)
    assert found.original is not None and found.original.value == 0.5  # of what is bad, the most
    table = measured_table(alarms)
    assert table is not None and [column.header for column in table.columns][3] == "on the original"
