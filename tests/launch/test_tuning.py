"""``robustclip tune`` as a person meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.files import ConfigError
from configs.load import load_config, plain
from configs.tuning import grid_of
from eval.tuning_plan import work_of
from launch.comparison import compare_runs
from launch.evaluation import run_report
from launch.tuning import run_tune
from tests.eval.test_tuning import SMALL


def test_a_tuning_ends_with_a_page_a_verdict_and_a_line_to_paste(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run_tune("clipure_cos_tiny", SMALL, run, command="robustclip tune clipure_cos_tiny")
    shown = capsys.readouterr().out
    assert "the winner: defense.name=clipure_cos defense.rotation_deg=" in shown
    assert "undefended encoder" in shown and str(run / "index.html") in shown
    left = {file: file.stat().st_mtime_ns for file in run.rglob("*.json*")}
    run_tune("clipure_cos_tiny", SMALL, run, command="again")  # only shows
    assert capsys.readouterr().out == shown
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*.json*")} == left
    (versus,) = compare_runs(run, run, f"{_defense(run)},none")
    assert versus.worst.n == 24
    run_report([run], None)
    assert (run / "report" / "index.html").is_file() and "Tuning" in (run / "index.html").read_text()
    with pytest.raises(ConfigError, match="another config"):
        run_tune("clipure_cos_tiny", [*SMALL, "seed=1"], run, command="")


def _defense(run: Path) -> str:
    from eval.results import read_results

    return next(row.defense for row in read_results(run / "results.jsonl") if row.defense != "none")


def test_a_dry_run_lists_the_settings_and_counts_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    run_tune(
        "clipure_cos_tiny", ["search={rotation_deg: [1, 20]}", "rungs.sieve.keep=2"], None, command="", dry_run=True
    )
    shown = capsys.readouterr().out
    assert "tune clipure_cos_tiny" in shown and "  rotation_deg=1\n  rotation_deg=20\n" in shown
    assert "64 images x 2 settings" in shown


def test_the_work_is_counted_by_hand() -> None:
    settings = (
        "search={rotation_deg: [1, 20, 30]}",
        "rungs={one: {limit: 10, attacks: {apgd: {steps: 7, restarts: 2, views: [transfer, adaptive]}}, keep: 2}, "
        "two: {attacks: {t: {name: apgd, loss: dlr_targeted, targets: 3, steps: 5, views: [adaptive]}}}}",
        "report={limit: 20, attacks: {square: {queries: 50}, apgd: {steps: 9, views: [bpda]}}}",
    )
    config = load_config("tune", "clipure_cos_tiny", settings)
    one, two, report = work_of(config, grid_of(plain(config)))
    # the undefended encoder and three settings; transferred points are the undefended encoder's
    assert (one.settings, one.attacks, one.gradients, one.queries) == (3, 1 + 3 * 2, 4 * 14, 0)
    assert (two.settings, two.attacks, two.gradients, two.images) == (2, 3, 3 * 3 * 5, None)
    assert (report.settings, report.attacks, report.gradients, report.queries) == (1, 4, 2 * 9, 2 * 50)
