"""Results in the layouts of others hold what was measured and nothing else."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from configs.files import ConfigError
from eval.card import Doubt
from eval.results import WORST
from launch.exchange.export import run_export
from launch.exchange.subject import Wanted
from tests.launch.exchange.runs import CLEAN, robust, write_judged


def export(run: Path, out: Path, to: str) -> str:
    run_export(str(run), out, to, wanted=Wanted(), results=[])
    return out.read_text()


def test_robustbench_gets_the_numbers_as_texts(tmp_path: Path) -> None:
    rows = [CLEAN, robust("autoattack", 0.52), robust("apgd", 0.55), robust(WORST, 0.51)]
    run = write_judged(tmp_path / "run", rows, "f" * 16, [Doubt("n", "amber", "look at this")])
    found = json.loads(export(run, tmp_path / "rb.json", "robustbench"))
    footnote = found.pop("footnote")
    assert found == {
        "name": "R-CLIP_F",
        "number_forward_passes": 1,
        "dataset": "digits",
        "architecture": "ViT-B-32",
        "norm": "Linf",
        "eps": "4/255",
        "clean_acc": "78.10",
        "autoattack_acc": "52.00",
        "external": "51.00",
    }
    assert "200 images, attacks: apgd, autoattack" in footnote and footnote.endswith("look at this")


def test_other_attacks_are_never_called_autoattack(tmp_path: Path) -> None:
    run = write_judged(tmp_path / "run", [CLEAN, robust("apgd", 0.55), robust(WORST, 0.55)], "f" * 16)
    found = json.loads(export(run, tmp_path / "rb.json", "robustbench"))
    assert "autoattack_acc" not in found and found["external"] == "55.00"
    cut = [CLEAN, robust("autoattack", 0.5, cumulative=True), robust(WORST, 0.5)]
    run = write_judged(tmp_path / "cascade", cut, "f" * 16)
    assert "autoattack_acc" not in json.loads(export(run, tmp_path / "cut.json", "robustbench"))


def test_a_defended_number_is_never_the_models(tmp_path: Path) -> None:
    rows = [replace(CLEAN, defense="ttc"), robust(WORST, 0.9, defense="ttc")]
    run = write_judged(tmp_path / "run", rows, "f" * 16)
    for to in ("robustbench", "clip-benchmark"):
        with pytest.raises(ConfigError, match="of the bare encoder"):
            export(run, tmp_path / "x.json", to)


def test_clip_benchmark_gets_top_1_and_no_invented_number(tmp_path: Path) -> None:
    rows = [CLEAN, robust(WORST, 0.51), replace(CLEAN, dataset="=cmd()", value=0.5)]
    run = write_judged(tmp_path / "run", rows, "f" * 16)
    found = json.loads(export(run, tmp_path / "cb.json", "clip-benchmark"))
    assert found == {
        "dataset": "digits",
        "model": "ViT-B-32",
        "pretrained": "fare4.pt",
        "task": "zeroshot_classification",
        "metrics": {"acc1": 0.781},
        "language": "en",
    }
    assert json.loads((tmp_path / "cb_2.json").read_text())["dataset"] == "=cmd()"
    export(run, tmp_path / "cb.csv", "clip-benchmark")
    with (tmp_path / "cb.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["dataset"], row["acc1"]) for row in table] == [("digits", "0.781"), ("'=cmd()", "0.5")]


def test_several_data_sets_are_no_robustbench_file(tmp_path: Path) -> None:
    run = write_judged(tmp_path / "run", [CLEAN, replace(CLEAN, dataset="other")], "f" * 16)
    with pytest.raises(ConfigError, match="has several data sets"):
        export(run, tmp_path / "rb.json", "robustbench")
