"""A tuning from end to end: what holds is chosen, what hides is not, and a second start finds the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from configs.files import ConfigError
from configs.load import load_config, plain
from configs.tuning import grid_of
from eval import tuning as tuning_module
from eval.judge import Judge
from eval.outcomes import read_outcomes
from eval.results import read_results
from eval.tuning import check_images, climb, tune_defense
from eval.tuning_record import Rung, read_tuning
from modules.encoders.tiny import load_tiny
from tests.eval.toy_world import Reader
from tests.eval.tuning_world import toy_config, toy_search

SMALL = (
    "search={rotation_deg: [1, 10, 20, 85], clip_overshoot: [true]}",
    "rungs={sieve: {limit: 12, attacks: {apgd: {steps: 2, views: [transfer, adaptive]}}, keep: 2}, "
    "final: {limit: 16, attacks: {apgd: {steps: 3, views: [transfer, adaptive]}}}}",
    "report={limit: 24, attacks: {apgd: {steps: 3}}}",
    "max_clean_drop=0.3",
    "views=[transfer, adaptive]",
)


def climbed(*planted: int, **changes: Any) -> list[Rung]:
    encoder, config = Reader("whisper").freeze(), toy_config(*planted, **changes)
    return climb(encoder, toy_search(config, encoder), grid_of(plain(config)))


def test_the_adaptive_worst_case_chooses_and_not_the_transferred_one() -> None:
    sieve, final = climbed(1, 2, 3, 4)
    scores = {one.name: one.score for one in sieve.tried}
    hides, holds = scores["rotation_deg=2"], scores["rotation_deg=3"]
    assert hides.transfer and holds.transfer
    assert hides.transfer.value > holds.transfer.value > 0.8  # who looks past the defence would take the wrong one
    assert hides.worst.value < 0.2 < 0.8 < holds.worst.value
    assert [one.name for one in sieve.tried if one.fate == "kept"][0] == "rotation_deg=3"
    assert len(final.tried) == 2 and scores["rotation_deg=4"].clean.value < 0.3
    assert final.tried[0].name == "rotation_deg=3" and final.tried[0].fate == "kept"
    assert final.tried[1].fate == "worst case"


def test_a_classifier_that_always_says_the_same_is_not_chosen_although_nothing_moves_it() -> None:
    (only,) = climbed(1, 4, keep=1, rungs={"only": {"attacks": {"apgd": {"steps": 15}}}})
    scores = {one.name: one.score for one in only.tried}
    assert scores["rotation_deg=4"].worst.value > scores["rotation_deg=1"].worst.value == only.bare.worst.value == 0
    assert [(one.name, one.fate) for one in only.tried] == [
        ("rotation_deg=1", "kept"),
        ("rotation_deg=4", "clean accuracy"),
    ]


def test_a_tuning_leaves_everything_that_a_report_and_a_comparison_need(tmp_path: Path) -> None:
    tuning = tune_defense(
        load_config("tune", "clipure_cos_tiny", SMALL), tmp_path, command="robustclip tune", quiet=True
    )
    assert read_tuning(tmp_path) == tuning
    assert tuning.count == tuning.grid == 4 and [len(rung.tried) for rung in tuning.rungs] == [4, 2]
    assert tuning.winner == tuning.rungs[-1].tried[0].name and tuning.line.startswith("defense.name=clipure_cos ")
    outcomes = read_outcomes(tmp_path / "outcomes-digits.json")
    rows = read_results(tmp_path / "results.jsonl")
    assert {row.defense for row in rows} == {"none", f"clipure_cos {tuning.winner}"}
    assert len(outcomes.keys) == tuning.comparison.n == 24
    worst = {row.defense: row.value for row in rows if (row.attack, row.metric) == ("worst", "robust_accuracy")}
    assert worst["none"] == tuning.bare.worst.value == tuning.comparison.second
    assert worst[f"clipure_cos {tuning.winner}"] == tuning.judged.worst.value == tuning.comparison.first
    for rung in ("sieve", "final"):  # no image that chose also judges
        for file in (tmp_path / "state" / f"rung-{rung}").iterdir():
            assert not set(json.loads(file.read_text())["keys"]) & set(outcomes.keys)
    assert "best of 4 settings" in tuning.verdict.sentences[0]


@pytest.mark.slow
def test_an_interrupted_tuning_goes_on_and_writes_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("tune", "clipure_cos_tiny", SMALL)
    tune_defense(config, tmp_path / "whole", quiet=True)
    attacked: list[str] = []
    work = Judge._attack

    def dies(judge: Judge, cell: Any, *rest: Any) -> Any:
        attacked.append(cell.defense)
        if len(attacked) == stop:
            raise KeyboardInterrupt
        return work(judge, cell, *rest)

    monkeypatch.setattr(Judge, "_attack", dies)
    monkeypatch.setattr("eval.harness.SAVE_EVERY", 0.0)
    for stop in (4, 20, 0):
        attacked.clear()
        try:
            tune_defense(config, tmp_path / "broken", quiet=True)
        except KeyboardInterrupt:
            assert not (tmp_path / "broken" / "tuning.json").exists()
        else:
            assert stop == 0
    whole, broken = ((tmp_path / run / "tuning.json").read_bytes() for run in ("whole", "broken"))
    assert whole == broken
    attacked.clear()
    shutil.copytree(tmp_path / "broken", tmp_path / "again")
    monkeypatch.setattr(tuning_module, "doubts_about", lambda *_: [])  # probes are asked anew
    tune_defense(config, tmp_path / "again", quiet=True)
    assert attacked == []  # nothing is attacked twice


def test_images_that_choose_and_judge_are_refused() -> None:
    config = load_config("tune", "clipure_cos_tiny", SMALL)
    check_images(config, load_tiny(), quiet=True)
    config.data.tune_split = "test"
    with pytest.raises(ConfigError, match=r"images both choose and judge, such as 'digits-\d+'"):
        check_images(config, load_tiny(), quiet=True)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tuning at"):
        read_tuning(tmp_path)
    (tmp_path / "tuning.json").write_text("{}")
    with pytest.raises(ConfigError, match="is damaged"):
        read_tuning(tmp_path)
