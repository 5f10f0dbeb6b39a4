"""Runs side by side: the numbers are those of ``robustclip compare``."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.files import ConfigError
from eval.outcomes import Cell, Outcomes, write_outcomes
from eval.results import write_results
from eval.rows import Rows, Subject
from launch.comparison import compare_runs, run_compare
from launch.sweep.expansion import Point
from launch.sweep.page import build_sweep_page
from launch.sweep.planning import Planned, Stage
from launch.sweep.record import holm, read_groups
from launch.sweep.seeds import over_seeds
from launch.sweep.table import write_table

EPS = 4 / 255
FLAGS = {"eps=2,seed=0": "11000000", "eps=2,seed=1": "11100000", "eps=4,seed=0": "10111111", "eps=4,seed=1": "01111111"}


def judged(folder: Path, name: str, flags: str, eps: float = EPS) -> Planned:
    """A run as an evaluation leaves it, right clean on all of its eight images."""
    cells = {Cell("none"): "1" * 8, Cell("none", "apgd", "adaptive", eps): flags}
    outcomes = Outcomes(
        [f"image-{i}" for i in range(8)],
        {cell: [[c == "1" for c in text]] for cell, text in cells.items()},
        dict.fromkeys(cells, 1.0),
    )
    rows = Rows("classification", "digits", Subject(name, "tiny", 0, "w"), "linf", eps, 0, "c0ffee")
    place = folder / name
    header = {"config": "c", "weights": "w", "shard": "1/1", "start": 0, "total": 8, "images": "i"}
    write_outcomes(place / "outcomes-digits.json", outcomes, rows=rows.to_json(), **header)
    write_results(place / "results.jsonl", rows.of(outcomes))
    settings = dict(part.split("=") for part in name.split(","))
    return Planned(Point(name, settings, ()), None, (Stage("evaluate", (), place),))


@pytest.fixture
def runs(tmp_path: Path) -> list[Planned]:
    return [judged(tmp_path, name, flags) for name, flags in FLAGS.items()]


def test_every_test_is_that_of_compare(runs: list[Planned], tmp_path: Path) -> None:
    (group,) = read_groups(runs)
    assert group.beside == "eps=2,seed=0" and [line.name for line in group.lines] == list(FLAGS)
    for line in group.lines[1:]:
        (versus,) = compare_runs(tmp_path / line.name, tmp_path / "eps=2,seed=0")
        assert line.worst_test == versus.worst and line.clean_test == versus.clean
    run_compare(tmp_path / "eps=4,seed=0", tmp_path / "eps=2,seed=0", None, tmp_path / "out")
    (written,) = json.loads((tmp_path / "out" / "comparison.json").read_text())
    test = group.lines[2].worst_test
    assert test is not None and written["worst"]["test"] == test.test._asdict() == {"b": 6, "c": 1, "p": 0.125}


@pytest.mark.parametrize(("against", "beside"), [("best", "eps=4,seed=0"), ("eps=4,seed=1", "eps=4,seed=1")])
def test_runs_are_compared_with_the_one_that_was_asked_for(runs: list[Planned], against: str, beside: str) -> None:
    (group,) = read_groups(runs, against)
    assert group.beside == beside
    with pytest.raises(ConfigError, match="no run has this name"):
        read_groups(runs, "seed=9")


def test_runs_inside_another_ball_stand_in_the_table_and_are_not_tested(tmp_path: Path) -> None:
    runs = [judged(tmp_path, "eps=4", "11110000"), judged(tmp_path, "eps=8", "11000000", 2 * EPS)]
    (group,) = read_groups(runs)
    assert group.lines[1].worst_test is None and group.lines[1].why_not == "another threat"
    assert any("4/255" in note for note in group.notes)


def test_other_images_are_not_tested_and_it_is_said_why(runs: list[Planned], tmp_path: Path) -> None:
    file = tmp_path / "eps=4,seed=1" / "outcomes-digits.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content).replace("image-7", "image-9"))  # its checksum no longer fits
    (group,) = read_groups(runs)
    assert [line.worst_test is None for line in group.lines] == [True, False, False, True]
    assert any("eps=4,seed=1 is not tested" in note for note in group.notes)


def test_seeds_are_gathered_with_their_spread(runs: list[Planned]) -> None:
    (group,) = read_groups(runs)
    two, four = over_seeds(group.lines)
    assert (two.name, four.name) == ("eps=2", "eps=4")
    assert two.spread("worst") == pytest.approx((2.5 / 8, 0.125 / 2**0.5, 0.25, 0.375))
    assert four.spread("worst")[1] == 0.0


def test_a_sweep_is_written_as_a_table_and_a_page(runs: list[Planned], tmp_path: Path) -> None:
    states = dict.fromkeys(FLAGS, "done") | {"eps=4,seed=1": "<b>broken</b>"}
    groups = read_groups(runs[:3])
    write_table(tmp_path / "sweep.csv", runs, groups, {}, states)
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == list(FLAGS)
    assert (rows[2]["worst"], rows[2]["only_this"], rows[2]["mcnemar_p"]) == ("0.875", "6", "0.125")
    assert rows[3]["worst"] == "" and rows[3]["state"] == "<b>broken</b>"
    page = build_sweep_page(tmp_path, "x", runs, groups, {}, {"command": "c", "states": states}).read_text()
    assert "&lt;b&gt;broken" in page and "<b>broken" not in page
    assert page.count("<svg") == 1 and "3 of 4 runs are finished" in page
    assert not re.search(r"(?:src|href)=[\"']https?:", page)


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holms_correction_is_that_of_the_slow_definition(ps: list[float]) -> None:
    found = holm(ps)
    for i, p in enumerate(ps):
        smaller = [q for j, q in enumerate(ps) if (q, j) <= (p, i)]
        steps = [min(1.0, (len(ps) - k) * q) for k, q in enumerate(sorted(smaller))]
        assert found[i] == max(steps)
