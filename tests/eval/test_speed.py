"""What benchmarks found is kept in a file, and a report has a section on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.files import ConfigError
from eval.evaluate import write_run
from eval.report import build_report
from eval.speed import FILE, Record, Speed, Timing, read_speed, speed_table, write_speed

RECORD = Record(
    "defences",
    "batches of 8 against a bare pass",
    ratios={"clipure_cos_overhead": 1.011, "ttc_overhead": 7.25},
    goals={"clipure_cos_overhead": "at most 1.02"},
    timings={"bare": Timing(0.25, 0.24, 0.31)},
    rates={"images": 1234.5, "few": 6.05},
    facts={"apart": 0.00412},
)
ABOUT = {"device": "cpu", "threads": 2, "quick": False}


def folder(tmp_path: Path, **changes: Any) -> Path:
    run = tmp_path / "runs" / "speed"
    write_run(run, {"benchmarks": ["defences"]}, seed=0, command="robustclip bench defences")
    write_speed(run / FILE, Speed([RECORD], ABOUT))
    found = json.loads((run / FILE).read_text())
    found["defences"] |= changes
    (run / FILE).write_text(json.dumps(found))
    return run


def test_what_was_written_is_read_and_a_number_stands_under_its_name(tmp_path: Path) -> None:
    run = folder(tmp_path)
    assert read_speed(run) == Speed([RECORD], ABOUT)
    found = json.loads((run / FILE).read_text())
    assert found["defences"]["clipure_cos_overhead"] == 1.011 and found["about"]["threads"] == 2
    assert found["defences"]["seconds"]["bare"] == {"median": 0.25, "low": 0.24, "high": 0.31}


def test_a_folder_without_benchmarks_has_none(tmp_path: Path) -> None:
    assert read_speed(tmp_path) is None


def test_a_report_shows_findings_goals_times_and_the_machine(tmp_path: Path) -> None:
    run = folder(tmp_path)
    page = build_report([run], tmp_path / "report").read_text()
    for text in (
        "<h2>Speed</h2>",
        "1.01x",
        "7.25x",
        "at most 1.02",
        "1,234/s",
        "6.05/s",
        "0.00412",
        "250.0",
        "threads 2",
    ):
        assert text in page
    assert ">5x<" in page and "mathdefault" not in page
    assert page == build_report([run], tmp_path / "again").read_text()
    assert 'aria-label="Ratios of defences: clipure_cos_overhead 1.01, ttc_overhead 7.25"' in page
    assert not (tmp_path / "report" / "results.csv").exists()


def test_what_a_stranger_wrote_into_the_file_is_text_on_the_page(tmp_path: Path) -> None:
    run = folder(tmp_path, shown={"what": "<script>\x1b[31m", "goals": {}, "ratios": [], "rates": [], "facts": []})
    page = build_report([run], tmp_path / "report").read_text()
    assert "&lt;script&gt;" in page and "<script>" not in page and "\x1b" not in page


@pytest.mark.parametrize(
    "changes", [{"seconds": 3}, {"ttc_overhead": "nan"}, {"ttc_overhead": float("inf")}, {"shown": {}}, {"shown": []}]
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"bench\.json is not what robustclip bench writes \(.+\); run the benchmark ag"
    ):
        read_speed(folder(tmp_path, **changes))


def test_the_table_of_the_terminal_has_ratios_first_and_takes_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    record = Record("one", "[red]what[/red]", ratios={"b[/]": 2.0}, facts={"a": 0.5})
    Console(width=100).print(speed_table(record))
    said = capsys.readouterr().out
    assert said.index("2.00x") < said.index("0.5") and "[red]what[/red]" in said and "b[/]" in said
