"""Names of strangers in what the commands write: pages, tables, cards and exports, and on the terminal."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from rich.console import Console

from eval.card import Doubt, write_card
from eval.outcomes import Cell, Outcomes, write_outcomes
from eval.results import WORST, write_results
from eval.rows import Rows, Subject
from launch.errors import explain, say
from launch.exchange.model_card import model_card
from launch.exchange.results import read_measured
from launch.exchange.subject import Exported
from launch.exchange.tables import clip_benchmark, robustbench, write_clip_benchmark
from launch.robustify.page import build_page, told
from launch.robustify.request import read_request
from launch.sweep.expansion import Point
from launch.sweep.page import build_sweep_page
from launch.sweep.planning import Planned, Stage
from launch.sweep.record import read_groups
from launch.sweep.seeds import over_seeds
from launch.sweep.table import terminal_group, terminal_seeds, write_table
from modules.encoders.fingerprint import fingerprint
from modules.encoders.tiny import load_tiny
from tests.eval.hostile import EVIL, FORMULAS, Page, faults_of, runs_a_formula
from tests.eval.score_cards import card
from tests.launch.exchange.runs import CLEAN, robust, write_judged

EPS = 4 / 255
MARKS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def judged(folder: Path, dataset: str, encoder: str, defense: str = "none") -> Path:
    """A run as an evaluation leaves it."""
    cells = {Cell(defense): "1111", Cell(defense, "apgd", "adaptive", EPS): "1100"}
    outcomes = Outcomes(
        list("abcd"), {cell: [[c == "1" for c in text]] for cell, text in cells.items()}, dict.fromkeys(cells, 1.0)
    )
    rows = Rows("classification", dataset, Subject(encoder, "tiny", 0, "w"), "linf", EPS, 0, "c0ffee")
    header = {"config": "c", "weights": "w", "shard": "1/1", "start": 0, "total": 4, "images": "i"}
    write_outcomes(folder / "outcomes-digits.json", outcomes, rows=rows.to_json(), **header)
    write_results(folder / "results.jsonl", rows.of(outcomes))
    return folder


def sweep_of(folder: Path, evil: str) -> list[Planned]:
    runs = []
    for number in range(2):
        place = judged(folder / str(number), evil, evil, evil)
        point = Point(f"{evil} {number}", {"data.shards": evil, "seed": str(number)}, ())
        runs.append(Planned(point, None, (Stage("evaluate", (), place),)))
    return runs


def test_a_sweeps_page_table_and_terminal_show_hostile_names_as_text(tmp_path: Path) -> None:
    runs = sweep_of(tmp_path, EVIL)
    (group,) = groups = read_groups(runs)
    states = {runs[0].name: "done", runs[1].name: EVIL}
    about = {"command": EVIL, "states": states}
    page = build_sweep_page(tmp_path, EVIL, runs, groups, {runs[0].name: {EVIL: 0.5}}, about).read_text()
    assert not faults_of(page) and "&lt;script&gt;" in page and "{{7*7}}" in page
    console = Console(file=io.StringIO(), width=120)
    console.print(terminal_group(group))
    console.print(terminal_seeds(group, over_seeds(group.lines)))
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert not MARKS.search(text) and "[bold" in text.replace("\n", "")


@pytest.mark.parametrize("formula", [*FORMULAS, EVIL])
def test_a_sweeps_table_holds_no_formula(formula: str, tmp_path: Path) -> None:
    runs = sweep_of(tmp_path, formula)
    write_table(tmp_path / "sweep.csv", runs, read_groups(runs), {}, dict.fromkeys((run.name for run in runs), formula))
    table = (tmp_path / "sweep.csv").read_text()
    assert not runs_a_formula(table) and not MARKS.search(table)
    assert [row["clean"] for row in csv.DictReader(io.StringIO(table))] == ["1.0", "1.0"]


def test_a_sweep_of_negative_numbers_keeps_them_as_numbers(tmp_path: Path) -> None:
    place = judged(tmp_path / "0", "digits", "a")
    run = Planned(Point("x=-1", {"x": "-1"}, ()), None, (Stage("evaluate", (), place),))
    write_table(tmp_path / "sweep.csv", [run], read_groups([run]), {}, {"x=-1": "done"})
    (row,) = csv.DictReader(io.StringIO((tmp_path / "sweep.csv").read_text()))
    assert row["x"] == "-1"


def test_a_robustifications_page_and_words_show_hostile_names_as_text(tmp_path: Path) -> None:
    request = read_request("tiny", [], quick=True, budget=None)
    config = replace(request.config, base=replace(request.config.base, encoder=EVIL), encoder=EVIL)
    for name in ("scorecard-base", "scorecard"):
        judged(tmp_path / name, EVIL, f"{EVIL} {name}")
        made = card(encoder=EVIL, dataset=EVIL, weights="w", doubts=[Doubt(EVIL, "red", EVIL)])
        write_card(tmp_path / name, made)
    (tmp_path / "env.json").write_text(json.dumps({"phases": {EVIL: 1.0}}))
    (tmp_path / "recipe.yaml").write_text(f"# {EVIL}\na: 1\n")
    evil = replace(request, config=config)
    page = build_page(tmp_path, evil, EVIL).read_text()
    assert [fault for fault in faults_of(page) if not fault.startswith("scorecard")] == []
    assert "&lt;script&gt;" in page and "{{7*7}}" in page
    assert not any(MARKS.search(line) for line in told(tmp_path, evil))


MARKDOWN = "---\nevil: yes\n---\n# x\n[x](http://e.vil) ![i](j) <b>b</b> `c` **d** |e| ~~f~~ www.3com.com me@e.vil $g$"
STARTS = ["- x", "+ x", "1. x", "> x", "=== ", "--- ", "# x", "    x", "| x | y |", "```", "<!--", "[x]: http://e.vil"]


def rendered(name: str, licence: str, subject: Exported, folder: Path) -> tuple[dict[str, Any], str, Page]:
    """The front matter of a card in which everything has this name, the rest, and what a reader of Markdown makes."""
    rows = [
        replace(CLEAN, dataset=name, encoder=name),
        robust(name, 0.5, dataset=name, qualifier=name, artefact=name, defense=name),
        robust(WORST, 0.5, dataset=name),
    ]
    run = write_judged(folder, rows, subject.fingerprint, [Doubt(name, "red", name)])
    metadata = {"base": {"name": name, "pretrained": name}, "objective": name, "threat": {name: name}}
    text = model_card(name, replace(subject, metadata=metadata), read_measured([run]), licence=licence, weights="ab")
    _, front, body = text.split("---\n", 2)
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(body)
    return yaml.safe_load(front), body, Page(page)


@pytest.fixture(scope="module")
def subject() -> Exported:
    clip = load_tiny()
    return Exported(clip, "encoder.safetensors", {}, fingerprint(clip.image))


@pytest.mark.parametrize("evil", [f"{MARKDOWN}{EVIL}", MARKDOWN, *STARTS])
def test_a_models_card_is_text_whatever_names_hold(evil: str, subject: Exported, tmp_path: Path) -> None:
    front, body, page = rendered(evil, evil, subject, tmp_path / "evil")
    _, _, usual = rendered("x", "mit", subject, tmp_path / "usual")
    assert front.keys() == {"license", "library_name", "tags"} and front["library_name"] == "open_clip"
    assert page.tags == usual.tags and not page.loads and not MARKS.search(str(front) + body)
    said = re.sub(r"\\.", "", body)  # what is left without what is escaped
    assert not re.search(r"www\.|http:|@|\w\.vil", said)  # no address that some readers make a link of


def test_the_reader_of_cards_would_see_a_name_that_is_markup(subject: Exported) -> None:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for evil in [MARKDOWN, *STARTS]:
        made = [Page(reader.render(f"a\n{name}\n\n{name}\n|-|-|\n\nb\n")).tags for name in (evil, "x")]
        assert made[0] != made[1], evil


@pytest.mark.parametrize("formula", FORMULAS)
def test_exports_for_others_hold_no_formula(formula: str, tmp_path: Path) -> None:
    rows = [replace(CLEAN, dataset=formula, encoder=formula), robust(WORST, 0.5, dataset=formula)]
    measured = read_measured([write_judged(tmp_path / "run", rows, "f" * 16)])
    write_clip_benchmark(tmp_path / "out.csv", clip_benchmark(measured, formula, formula))
    assert not runs_a_formula((tmp_path / "out.csv").read_text())


def test_exports_for_others_hold_no_escape_and_are_json(tmp_path: Path) -> None:
    rows = [
        replace(CLEAN, dataset=EVIL, encoder=EVIL),
        robust(WORST, 0.5, dataset=EVIL),
        robust(EVIL, 0.6, dataset=EVIL),
    ]
    run = write_judged(tmp_path / "run", rows, "f" * 16, [Doubt(EVIL, "red", EVIL)])
    measured = read_measured([run])
    write_clip_benchmark(tmp_path / "out.json", clip_benchmark(measured, EVIL, EVIL))
    texts = [(tmp_path / "out.json").read_text(), json.dumps(robustbench(measured, EVIL, EVIL), ensure_ascii=False)]
    for text in texts:
        assert not MARKS.search(text) and not MARKS.search(json.dumps(json.loads(text), ensure_ascii=False))


def test_a_mistake_is_told_without_what_a_terminal_would_act_on(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL)
    assert explain(ValueError(EVIL)) == 2
    told = capsys.readouterr().err
    assert not MARKS.search(told.replace("\n", "")) and "\\x1b[2J" in told
