"""Verdicts and bars follow from the numbers; findings are kept in a file and shown by a report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.files import ConfigError
from eval.evaluate import write_run
from eval.report import build_report
from eval.traps.record import FILE, Findings, Row, read_findings, write_findings

ROW = Row("forgets", "state", True, "Forgets", "linf 4/255", 0.9, 0.5, 0.1, [], ["few_images"], 2.5)
HONEST = replace(ROW, name="plain", kind="network", broken=False, text="A network", claimed=0.1)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "missed"),
        ({"red": ["remembers"]}, "caught"),
        ({"claimed": 0.12}, "harmless"),
        ({"broken": False}, "too high"),
        ({"broken": False, "claimed": 0.0}, "believed"),
        ({"broken": False, "claimed": 0.0, "red": ["no_gradient"]}, "red"),
    ],
)
def test_a_verdict_follows_from_doubts_and_from_the_distance_to_the_truth(
    changes: dict[str, Any], verdict: str
) -> None:
    row = replace(ROW, **changes)
    assert row.verdict == verdict
    assert row.passed == (verdict in ("caught", "harmless", "believed"))


def test_one_missed_trap_fails_and_one_honest_one_in_forty_may_be_red() -> None:
    red = replace(HONEST, red=["never_falls"])
    assert Findings([replace(ROW, red=["remembers"]), red, *[HONEST] * 39]).passed
    assert not Findings([red, red, *[HONEST] * 38]).passed
    assert not Findings([replace(HONEST, claimed=0.2)]).passed
    bars = Findings([ROW, HONEST]).bars
    assert bars[0] == ("0 of 1 broken ones are caught, or their headline is right (missed: forgets)", False)


def folder(tmp_path: Path, rows: list[Row]) -> Path:
    run = tmp_path / "runs" / "traps"
    write_run(run, {"traps": [row.name for row in rows]}, seed=0, command="robustclip traps")
    write_findings(run, Findings(rows, {"budget": "quick"}))
    return run


def test_what_was_written_is_read_and_shown_with_wrong_verdicts_first(tmp_path: Path) -> None:
    run = folder(tmp_path, [replace(ROW, name="seen", red=["remembers"]), ROW, HONEST])
    assert read_findings(run) == Findings(
        [replace(ROW, name="seen", red=["remembers"]), ROW, HONEST], {"budget": "quick"}
    )
    page = build_report([run], tmp_path / "report").read_text()
    assert "<h2>Traps</h2>" in page and "budget quick" in page and "remembers" in page
    assert page.index('"row">forgets') < page.index('"row">seen') < page.index('"row">plain')
    assert page == build_report([run], tmp_path / "again").read_text()


def test_markup_in_the_file_is_text_on_the_page(tmp_path: Path) -> None:
    page = build_report([folder(tmp_path, [replace(ROW, text="<script>\x1b[31m")])], tmp_path / "report").read_text()
    assert "&lt;script&gt;" in page and "<script>" not in page and "\x1b" not in page


@pytest.mark.parametrize(
    "changes",
    [{"claimed": "much"}, {"truth": float("nan")}, {"broken": 1}, {"seconds": True}, {"red": [3]}, {"red": "x"}],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = folder(tmp_path, [ROW])
    content = json.loads((run / FILE).read_text())
    content["rows"][0] |= changes
    (run / FILE).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"traps\.json is not a file of robustclip traps \(.+\); run the traps again"):
        read_findings(run)


def test_a_folder_without_traps_has_no_findings(tmp_path: Path) -> None:
    assert read_findings(tmp_path) is None
