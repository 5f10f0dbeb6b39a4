"""The demo: the whole job on embedded data, and the truth it must show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eval.results import Result, read_results
from tests.waiting import CEILING

DEFENSES = {"none", "random_noise", "clipure_cos", "clipure_cos_legacy", "clipure_diff", "ttc"}


def start(out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from launch.cli import main; main()", "demo", "--quick", "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=CEILING)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "run"
    ended = start(folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def headline(out: Path) -> dict[tuple[str, str], Result]:
    rows = [r for r in read_results(out / "results.jsonl") if r.dataset == "digits" and r.attack == "worst"]
    return {(r.encoder, r.defense): r for r in rows}


@pytest.mark.slow
def test_both_encoders_are_judged_behind_every_defence(out: Path) -> None:
    assert set(headline(out)) == {(e, d) for e in ("CLIP", "R-CLIP_F") for d in DEFENSES}


@pytest.mark.slow
def test_fine_tuning_makes_the_model_robust(out: Path) -> None:
    found = headline(out)
    assert found["CLIP", "none"].value <= 0.25
    assert found["R-CLIP_F", "none"].low > found["CLIP", "none"].high


@pytest.mark.slow
def test_the_page_shows_the_released_gradient_beside_the_exact_one(out: Path) -> None:
    rows = [r for r in read_results(out / "results.jsonl") if r.defense == "clipure_cos_legacy" and r.encoder == "CLIP"]
    by_view = {r.view: r.value for r in rows if r.attack == "apgd_ce"}
    assert by_view["released"] > by_view["adaptive"] + 0.3
    assert {r.artefact for r in rows} == {"clipure-legacy"}


@pytest.mark.slow
def test_the_page_is_one_file_with_pictures(out: Path) -> None:
    page = (out / "report" / "index.html").read_text()
    assert "<svg" in page and "data:image/png" in page
    assert not re.search(r"(?:src|href)=[\"']https?:", page)


@pytest.mark.slow
def test_started_again_it_does_nothing_twice_and_says_the_same(out: Path) -> None:
    before = (out / "results.jsonl").read_text()
    seconds = json.loads((out / "env.json").read_text())["seconds"]
    assert start(out).returncode == 0
    assert (out / "results.jsonl").read_text() == before
    assert json.loads((out / "env.json").read_text())["seconds"] >= seconds
