"""The whole job, and what a second start leaves alone."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eval.card import read_card
from launch.robustify.phases import Phase, run_phases
from modules.encoders.clip import load_clip
from tests.waiting import CEILING, wait_until

SMALL = [
    *("steps=12", "batch=16", "trainer.checkpoint_every=1", "trainer.accelerator=cpu", "trainer.devices=1"),
    *("data.workers=0", "scorecard.data.limit=8", "scorecard.views=[adaptive]", "scorecard.device=cpu"),
    *("scorecard.attacks={apgd_ce: {name: apgd, loss: ce, steps: 2}}", "scorecard.strength.limit=4"),
    "scorecard.probes=2",
]


def command(out: Path) -> list[str]:
    words = ["robustify", "tiny", *SMALL, "--quick", "--out", str(out)]
    return [sys.executable, "-c", "from launch.cli import main; main()", *words]


def robustify(out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(out), capture_output=True, text=True, timeout=CEILING)


def killed_once(out: Path, sign: str) -> str:
    """What a start says before it is killed, as soon as a file is there; an empty text where it ended by itself."""
    with subprocess.Popen(command(out), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        wait_until(lambda: list(out.glob(sign)) or process.poll() is not None)
        process.kill()
        said, _ = process.communicate()  # until a training that it left is gone too
    return said if process.returncode == -signal.SIGKILL else ""


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
@pytest.mark.skipif(sys.platform != "linux", reason="a training ends with who started it where the system says so")
def test_a_base_becomes_a_model_a_card_and_a_page_however_often_it_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = killed_once(out, "training/checkpoints/step=*.ckpt")
    assert re.search(r"# cost: \S+ FLOPs", said) and "measured on this CPU" in " ".join(said.replace("│", " ").split())
    assert (out / "scorecard-base" / "done").is_file() and not (out / "training" / "done").is_file()
    base = (out / "scorecard-base" / "scorecard.json").stat().st_mtime_ns
    said = killed_once(out, "scorecard/config.yaml")
    assert "[1/6] judge tiny: done before" in said and "FLOPs" not in said
    assert (out / "encoder.safetensors").is_file() and not (out / "tiny-fare4").exists()
    ended = robustify(out)
    assert ended.returncode == 0 and ended.stdout.count("done before") == 3, ended.stderr
    assert (out / "scorecard-base" / "scorecard.json").stat().st_mtime_ns == base
    _is_whole(out)
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    assert robustify(out).stdout.count("done before") == 6
    assert {path: path.stat().st_mtime_ns for path in files} == files


def _is_whole(out: Path) -> None:
    """Everything that was promised is there and about the same weights."""
    base, result = read_card(out / "scorecard-base"), read_card(out / "scorecard")
    assert base.weights != result.weights and base.headline.n == result.headline.n == 8
    assert re.search(r"# took: .*, the last of several starts", (out / "recipe.yaml").read_text())
    page = (out / "index.html").read_text()
    assert "On the same 8 images R-CLIP_F" in page and "tiny-fare4" in page
    assert '<p class="system">R-CLIP_F <span class="none">beside</span> tiny<' in page
    assert not re.search(r"(?:src|href)=[\"']https?:", page)
    assert result.weights in (out / "tiny-fare4" / "README.md").read_text()
    assert load_clip(f"local-dir:{out / 'tiny-fare4'}").image.embedding_dim == 128
    assert set(json.loads((out / "env.json").read_text())["phases"]) >= {"base", "training", "result", "export"}
    assert not list(out.glob(".tiny-fare4*"))
