"""The perceptual demo: it runs whole, and what it shows is what it measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eval.results import read_results
from tests.waiting import CEILING


def start(out: Path) -> subprocess.CompletedProcess[str]:
    words = ["demo", "perceptual", "--quick", "--out", str(out)]
    command = [sys.executable, "-c", "from launch.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=CEILING)


@pytest.mark.slow
def test_the_quick_demo_measures_both_encoders_and_writes_one_page(tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = start(out)
    assert ended.returncode == 0, ended.stderr
    record = json.loads((out / "perceptual.json").read_text())
    assert set(record["distance"]) == {"CLIP", "R-CLIP_F"}
    strokes = {name: found["strokes"][0] for name, found in record["grey"]["encoders"].items()}
    assert strokes["R-CLIP_F"] > 1.3 * strokes["CLIP"] > 1.3 * 40 / 3072  # even of twenty steps of training
    attacked = {
        name: found["attacked"]["4/255"][0] / record["apart"][name][0] for name, found in record["distance"].items()
    }
    assert attacked["R-CLIP_F"] < 0.5 * attacked["CLIP"]
    rows = read_results(out / "results.jsonl")
    assert {(r.encoder, r.dataset) for r in rows} == {(e, d) for e in strokes for d in ("reference", "all", "search")}
    page = (out / "report" / "index.html").read_text()
    assert "do not transfer to CLIP" in page and not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert f"{100 * strokes['CLIP']:.1f} % (CLIP)" in page
    (out / "done").unlink()
    again = start(out)  # nothing is trained or attacked twice
    assert again.returncode == 0 and "going on" not in again.stderr
    assert json.loads((out / "perceptual.json").read_text()) == record
