"""The whole job, and what a second start leaves alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eval.card import read_card
from launch.robustify.phases import Phase, run_phases
from modules.encoders.clip import load_clip

SMALL = [
    *("steps=6", "batch=16", "trainer.accelerator=cpu", "trainer.devices=1", "scorecard.data.limit=8"),
    *("scorecard.attacks={apgd_ce: {name: apgd, loss: ce, steps: 2}}", "scorecard.views=[adaptive]"),
    *("scorecard.strength.limit=4", "scorecard.probes=2", "scorecard.device=cpu"),
]


def robustify(out: Path) -> subprocess.CompletedProcess[str]:
    words = ["robustify", "tiny", *SMALL, "--quick", "--out", str(out)]
    command = [sys.executable, "-c", "from launch.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


def test_what_is_done_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []

    def phase(name: str) -> Phase:
        def run() -> None:
            ran.append(name)
            (tmp_path / name).touch()

        return Phase(f"do {name}", name, tmp_path / name, run)

    seconds: dict[str, float] = {}
    (tmp_path / "b").touch()
    phases = [phase(name) for name in "abc"]
    run_phases(phases, seconds.update)
    assert ran == ["a", "c"] and set(seconds) == {"a", "c"}
    run_phases(phases, seconds.update)
    assert ran == ["a", "c"]
    assert "[2/3] do b: done before" in capsys.readouterr().out


def test_a_part_that_ends_early_is_not_done_and_the_next_ones_wait(tmp_path: Path) -> None:
    def told_to_stop() -> None:
        raise SystemExit(0)

    never = Phase("never", "n", tmp_path / "n", lambda: pytest.fail("ran"))
    with pytest.raises(SystemExit):
        run_phases([Phase("stop", "s", tmp_path / "s", told_to_stop), never], lambda seconds: None)


@pytest.mark.slow
def test_a_base_becomes_a_model_a_card_and_a_page_and_a_second_start_does_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = robustify(out)
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"# cost: \S+ FLOPs", ended.stdout) and "measured on this CPU" in " ".join(ended.stdout.split())
    assert "# took: " in (out / "recipe.yaml").read_text()
    base, result = read_card(out / "scorecard-base"), read_card(out / "scorecard")
    assert base.weights != result.weights and base.headline.n == result.headline.n == 8
    page = (out / "index.html").read_text()
    assert "On the same 8 images" in page and "tiny-fare4" in page and not re.search(r"(?:src|href)=[\"']https?:", page)
    assert result.weights in (out / "tiny-fare4" / "README.md").read_text()
    assert load_clip(f"local-dir:{out / 'tiny-fare4'}").image.embedding_dim == 128
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    again = robustify(out)
    assert again.returncode == 0 and again.stdout.count("done before") == 6
    assert {path: path.stat().st_mtime_ns for path in files} == files
    (out / "index.html").unlink()
    assert robustify(out).stdout.count("done before") == 5 and (out / "index.html").is_file()
    assert set(json.loads((out / "env.json").read_text())["phases"]) >= {"base", "training", "result", "export"}
