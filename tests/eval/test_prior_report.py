"""The page about a prior: whether it is healthy, in words, bands and a table."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from configs.files import ConfigError
from eval.prior_health import DIFFERENCE, IMAGE, LOSS, MEASURES, UNRELATED, health_table, in_short, measures_of
from eval.prior_plots import prior_figures
from eval.prior_record import read_record
from eval.report import build_report
from launch.evaluation import run_report
from tests.eval.prior_runs import LAST, prior_run
from tests.eval.test_report import make_run


def text_of(page: Path) -> str:
    """The words of a page."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def test_a_number_is_told_with_its_healthy_range() -> None:
    assert IMAGE.sentence(0.81) == "Similarity with the original image 0.810: healthy (0.75 or more)."
    assert IMAGE.sentence(0.6) == "Similarity with the original image 0.600: below the healthy range (0.75 or more)."
    assert LOSS.verdict(0.15) == UNRELATED.verdict(-0.4) == "healthy" and LOSS.verdict(0.2) == "above the healthy range"
    assert (
        DIFFERENCE.sentence(0.015) == "Difference from the baseline +0.015: above the healthy range (within 0.01 of 0)."
    )
    assert DIFFERENCE.sentence(0.03).endswith("Above 0.02 is a sign of overfitting.")
    assert DIFFERENCE.verdict(-0.02) == "below the healthy range"
    assert IMAGE.verdict(float("nan")) == "below the healthy range"  # never healthy


def test_a_loss_of_another_kind_has_no_published_range() -> None:
    assert measures_of("v", "l2")[0].healthy == "" == measures_of("x0", "l1")[0].healthy
    assert measures_of("x0", "l2") == MEASURES


def test_health_in_short_counts_what_has_a_range() -> None:
    assert in_short(LAST).startswith("3 of 4 measures with a published range are healthy; outside: difference from")
    assert in_short({**LAST, "val/difference_from_baseline": 0.0}) == (
        "All 4 measures with a published range are healthy."
    )
    assert in_short({}) == "No pairs were held out, so nothing is said about its health."


def test_a_priors_run_has_a_page_of_its_own(tmp_path: Path) -> None:
    page = build_report([prior_run(tmp_path / "runs" / "prior")], tmp_path / "report")
    words = text_of(page)
    for told in (
        "Report · runs/prior",
        "3 of 4 measures with a published range are healthy; outside: difference from the baseline +0.040.",
        "The loss on held-out pairs fell from 0.240 (an untrained prior) to 0.120.",
        "Similarity with the original image 0.810: healthy (0.75 or more).",
        "Above 0.02 is a sign of overfitting.",
        "published for priors of ViT-L/14 after about a billion samples",
        "above the healthy range",
        "249,416,720",
        "computed while training token states",
        "-0.250 on average",
    ):
        assert told in words, told
    assert "What is left" not in words and "Robustness" not in words and "stand-in" not in words
    assert not (tmp_path / "report" / "results.csv").exists()


def test_every_measure_is_drawn_over_the_steps_with_its_band(tmp_path: Path) -> None:
    record = read_record(prior_run(tmp_path / "prior"))
    figures = prior_figures(record, "p0")
    assert len(figures) == 6
    shown = {caption: svg for svg, caption in figures}
    loss = next(svg for caption, svg in shown.items() if caption.startswith("Loss"))
    for label in ("training", "held-out, moving average", "held-out, live weights", "healthy: 0.15 or less"):
        assert label in loss, label
    assert "healthy: 0.75 or more" in shown["Similarity with the original image · healthy: 0.75 or more"]
    assert "image with text (baseline)" in shown["Similarity with the text"]
    by_timestep = shown["Error of the predicted embedding by timestep, with the text"]
    assert "step 20" in by_timestep and "step 40" in by_timestep
    assert "0.08 at 249.5, 0.11 at 749.5" in by_timestep  # for those who cannot see it
    assert figures == prior_figures(record, "p0")


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    run = prior_run(tmp_path / "prior")
    pages = [build_report([run], tmp_path / name).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


def test_priors_and_evaluations_share_a_page(tmp_path: Path) -> None:
    page = build_report([make_run(tmp_path / "evaluation"), prior_run(tmp_path / "prior")], tmp_path / "report")
    words = text_of(page)
    assert "Robustness report" in words and "What is left" in words
    assert "3 of 4 measures" in words and "those of priors in the metrics.csv of their runs" in words
    assert (tmp_path / "report" / "results.csv").is_file()


def test_an_unfinished_training_and_one_without_held_out_pairs_say_so(tmp_path: Path) -> None:
    unfinished = prior_run(tmp_path / "unfinished", steps=400)
    unseen = prior_run(tmp_path / "unseen", validated=False, likelihood=None)
    words = text_of(build_report([unfinished, unseen], tmp_path / "report"))
    assert "The training is not finished: 40 of 400 steps." in words
    assert "No pairs were held out, so nothing is said about its health." in words


def test_an_adapted_prior_is_compared_with_the_one_it_started_from(tmp_path: Path) -> None:
    run = prior_run(tmp_path / "prior", init="prior.safetensors", data={"shards": "digits", "pairs": 3})
    words = text_of(build_report([run], tmp_path / "report"))
    assert "fell from 0.240 (the prior it started from) to 0.120" in words and "started from prior.safetensors" in words
    assert "a stand-in" in words


def test_what_a_run_says_is_text_and_never_markup(tmp_path: Path) -> None:
    run = prior_run(tmp_path / "prior", init="<script>alert(1)</script>")
    assert "<script" not in build_report([run], tmp_path / "report").read_text()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("prior.json", "{", "prior.json cannot be read"),
        ("prior.json", "[]", "prior.json must hold one JSON object"),
        ("metrics.csv", "step,train/loss\n1,high\n", "metrics.csv:2 is no row of numbers"),
    ],
)
def test_damaged_files_are_told_in_a_line(name: str, content: str, told: str, tmp_path: Path) -> None:
    run = prior_run(tmp_path / "prior")
    (run / name).write_text(content)
    with pytest.raises(ConfigError, match=told):
        build_report([run], tmp_path / "report")


def test_the_terminal_shows_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = prior_run(tmp_path / "prior")
    run_report([run], tmp_path / "report")
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "0.810" in shown and "0.75 or more" in shown and "report: " in shown
    assert health_table(LAST).row_count == len(MEASURES)
