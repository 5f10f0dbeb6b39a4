"""Two runs side by side: paired by image, and refused in a line where they cannot be."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.files import ConfigError
from eval.card import write_card
from eval.compare import compare
from eval.outcomes import Cell, Outcomes, write_outcomes
from eval.rows import Rows, Subject
from launch import cli
from launch.comparison import compare_runs, run_compare
from tests.eval.score_cards import RED, card

EPS = 4 / 255
KEYS = [f"image-{i}" for i in range(8)]
ROWS = Rows("classification", "digits", Subject("CLIP", "tiny", 0, "w"), "linf", EPS, 0, "c0ffee")


def flags(text: str) -> list[bool]:
    return [flag == "1" for flag in text]


def a_run(folder: Path, cells: dict[Cell, list[str]] | None = None, rows: Rows = ROWS, **header: Any) -> Path:
    """A folder as an evaluation leaves it: a bare encoder and one defence of two draws."""
    draws = cells or {
        Cell("none"): ["11111110"],
        Cell("none", "apgd", "adaptive", EPS): ["11000000"],
        Cell("none", "square", "query", EPS): ["10100000"],
        Cell("ttc"): ["11111100", "11111101"],
        Cell("ttc", "apgd", "transfer", EPS): ["11111000", "11110100"],
        Cell("ttc", "square", "query", EPS): ["11110111", "01111111"],
        Cell("ttc", "apgd", "adaptive", 2 * EPS): ["00000000", "00000000"],  # of the curve: no part of the worst case
    }
    outcomes = Outcomes(
        list(header.pop("keys", KEYS)),
        {cell: [flags(text) for text in texts] for cell, texts in draws.items()},
        dict.fromkeys(draws, 1.0),
        {},
    )
    told = {
        "config": "c",
        "weights": "w",
        "rows": rows.to_json(),
        "shard": "1/1",
        "start": 0,
        "total": 8,
        "images": "i",
    }
    write_outcomes(folder / f"outcomes-{rows.dataset}.json", outcomes, **{**told, **header})
    return folder


def test_worst_cases_are_taken_per_image_over_attacks_views_and_draws(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    (found,) = compare_runs(run, run, "none,ttc")
    none, ttc = flags("10000000"), flags("01110000")  # by hand
    assert found.worst == compare(dict(zip(KEYS, none, strict=True)), dict(zip(KEYS, ttc, strict=True)))
    assert (found.clean.first, found.clean.second) == (7 / 8, 6 / 8)
    assert found.names == ("CLIP", "CLIP + ttc")
    assert "CLIP + ttc is right more often" in found.sentence and "chance explains it as well" in found.sentence


def test_images_are_paired_by_id_whatever_their_order(tmp_path: Path) -> None:
    forwards = a_run(tmp_path / "a")
    cells = {Cell("none"): ["01111111"], Cell("none", "apgd", "adaptive", EPS): ["00000011"]}
    backwards = a_run(tmp_path / "b", cells, keys=KEYS[::-1])
    (found,) = compare_runs(forwards, backwards, "none")
    assert found.worst.test[:2] == (0, 1)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(["none", "ttc"], "ttc"), (["none"], "none"), (["ttc"], "ttc"), (["none", "ttc", "tte"], "none")],
)
def test_without_a_name_the_only_defence_is_meant(tmp_path: Path, names: list[str], chosen: str) -> None:
    cells = {c: ["1" * 8] for name in names for c in (Cell(name), Cell(name, "apgd", "adaptive", EPS))}
    (found,) = compare_runs(a_run(tmp_path / "a", cells), a_run(tmp_path / "b", cells))
    assert found.first.defense == found.second.defense == chosen


def test_runs_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    (found,) = compare_runs(a_run(tmp_path / "a"), a_run(tmp_path / "b"))
    assert found.names[0].endswith("/a)") and found.names[1].endswith("/b)")
    with pytest.raises(ConfigError, match="compared with itself"):
        compare_runs(tmp_path / "a", tmp_path / "a")


def test_what_speaks_against_a_comparison_is_said(tmp_path: Path) -> None:
    artefacts = {"ttc": "ttc-legacy"}
    first = a_run(tmp_path / "a", rows=replace(ROWS, artefacts=artefacts))
    cells = {Cell("none"): ["1" * 8], Cell("none", "apgd", "adaptive", EPS): ["1" * 8]}
    (found,) = compare_runs(first, a_run(tmp_path / "b", cells))
    told = "\n".join(found.cautions)
    assert "the worst case of CLIP + ttc is no robustness (artefact: ttc-legacy)" in told
    assert "only CLIP + ttc met square" in told
    assert compare_runs(a_run(tmp_path / "c"), a_run(tmp_path / "d"))[0].cautions == []


def test_a_red_doubt_of_a_scorecard_follows_its_number(tmp_path: Path) -> None:
    first = a_run(tmp_path / "a")
    write_card(first, card(dataset="digits", doubts=[RED]))
    (found,) = compare_runs(first, a_run(tmp_path / "b"))
    assert len(found.cautions) == 1 and f"red doubt: {RED.name}" in found.cautions[0]
    (bare,) = compare_runs(first, tmp_path / "b", "none")  # the card is not about the bare encoder
    assert bare.cautions == []


def part(folder: Path) -> Path:
    return a_run(folder, shard="2/8")


def elsewhere(folder: Path) -> Path:
    return a_run(folder, rows=replace(ROWS, dataset="cifar"))


def stronger(folder: Path) -> Path:
    cells = {Cell("ttc"): ["1" * 8], Cell("ttc", "apgd", "adaptive", 2 * EPS): ["1" * 8]}
    return a_run(folder, cells, rows=replace(ROWS, eps=2 * EPS))


def other_ids(folder: Path) -> Path:
    return a_run(folder, keys=[*KEYS[:-1], "another"])


def twice(folder: Path) -> Path:
    return a_run(folder, keys=[*KEYS[:-1], KEYS[0]])


def only_clean(folder: Path) -> Path:
    return a_run(folder, {Cell("ttc"): ["1" * 8]})


def undefended(folder: Path) -> Path:
    return a_run(folder, {Cell("none"): ["1" * 8], Cell("none", "apgd", "adaptive", EPS): ["1" * 8]})


def flipped(folder: Path) -> Path:
    file = next(a_run(folder).glob("outcomes-*.json"))
    file.write_text(file.read_text().replace("11111110", "11111111", 1))
    return folder


def unlabelled(folder: Path) -> Path:
    outcomes = Outcomes(KEYS, {Cell("ttc"): [[True] * 8]}, {Cell("ttc"): 1.0}, {})
    write_outcomes(folder / "outcomes-digits.json", outcomes, shard="1/1", rows={"task": "x"})
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def in_parts(folder: Path) -> Path:
    (folder / "shard-1-of-2").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder, "no run folder at"),
        (empty, "holds no outcomes-*.json; evaluate there first"),
        (in_parts, "robustclip report"),
        (part, "is part 2/8 of an evaluation"),
        (elsewhere, "is about digits,"),
        (stronger, "inside ℓ∞ 8/255; evaluate both inside the same threat"),
        (other_ids, "not about the same images: 1 are only in the first"),
        (twice, "names an image twice"),
        (only_clean, "holds no attack on 'ttc'"),
        (undefended, "no defence 'ttc' in"),
        (unlabelled, "it says not what it belongs to"),
        (flipped, "its checksum does not fit"),
    ],
)
def test_what_cannot_be_compared_costs_one_line_and_exit_code_2(
    make: Callable[[Path], Path],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = a_run(tmp_path / "a"), make(tmp_path / "b")
    arguments = ["compare", str(first), str(second), "--defense", "ttc", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["robustclip", *arguments])
    with pytest.raises(SystemExit) as leave:
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert leave.value.code == 2 and len(lines) == 1 and told in lines[0], lines
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", ["a,b,c", "", "ttc,"])
def test_more_or_fewer_than_two_names_are_refused(tmp_path: Path, names: str) -> None:
    with pytest.raises(ConfigError, match="names no one or two defences"):
        compare_runs(a_run(tmp_path / "a"), a_run(tmp_path / "b"), names)


def test_a_comparison_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(tmp_path / "run")
    for _ in range(2):
        run_compare(run, run, "none,ttc", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "On the same 8 images CLIP is right on 12.5 %" in " ".join(printed.split())
    (written,) = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written["worst"]["test"] == {"b": 1, "c": 3, "p": 0.625} and written["worst"]["n"] == 8
    assert written["worst"]["difference"]["value"] == -0.25
    page = (tmp_path / "out" / "index.html").read_text()
    assert written["sentence"] in page
    assert re.findall(r'<i class="(\w+)" style="flex-grow:(\d+)"', page) == [
        ("both", "0"),
        ("first", "1"),
        ("second", "3"),
        ("neither", "4"),
    ]
    run_compare(run, run, "none,ttc", None)
    assert sorted(p.name for p in run.iterdir()) == ["outcomes-digits.json"]  # nothing is left behind in a run


def test_names_are_inert_in_print_and_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subject = Subject("</p><script>alert(1)</script>\x1b[31m[red]x")
    run = a_run(tmp_path / "run", rows=replace(ROWS, subject=subject))
    run_compare(run, run, "none,ttc", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "\x1b" not in page
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "[red]x" in printed
