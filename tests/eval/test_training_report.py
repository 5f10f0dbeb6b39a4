"""The part of a report that is about trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.files import ConfigError
from eval.pages.runs import read_runs
from eval.pages.training import training_section
from eval.report import build_report
from tests.eval.prior_runs import prior_run

METRICS = "step,train/loss,lr,train/attack_gain,train/cosine,train/grad_norm"
PERF = "step,perf/images_per_s,perf/data_wait_share,perf/memory_gb,perf/tflops"


def training_run(folder: Path, *, wait: float = 0.01, gain: float = 2.0, perf: bool = True) -> Path:
    """A fine-tuning of 40 steps that evaluated nothing."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "env.json").write_text(json.dumps({"versions": {"torch": "2"}, "seed": 0, "command": "robustclip"}))
    steps = (1, 10, 20, 30, 40)
    told = [f"{step},{100 / step},0.1,{gain},0.5,{step}.0" for step in steps]
    (folder / "metrics.csv").write_text("\n".join([METRICS, *told]) + "\n")
    if perf:
        rates = [f"{step},{1.0 if step == 1 else 50.0},{1.0 if step == 1 else wait},2.5,0.125" for step in steps]
        (folder / "perf.csv").write_text("\n".join([PERF, *rates]) + "\n")
    return folder


def section(*folders: Path) -> dict[str, Any]:
    found = training_section(read_runs(folders))
    assert found is not None
    return found


def test_a_training_without_an_evaluation_has_a_report_and_its_bytes_repeat(tmp_path: Path) -> None:
    run = training_run(tmp_path / "fare" / "run")
    page = build_report([run], tmp_path / "one").read_text()
    assert page == build_report([run], tmp_path / "two").read_text()
    for words in ("Over training", "Norm of the gradient", "fare/run: mean", "What was run"):
        assert words in page
    assert not (tmp_path / "one" / "results.csv").exists()


def test_means_leave_out_the_start_of_speeds_and_nothing_else(tmp_path: Path) -> None:
    rows = dict(section(training_run(tmp_path / "run"))["rows"])
    assert rows["Images a second"] == [("50", "50")] and rows["Time in which it waited for data, %"] == [("1.0", "1.0")]
    assert rows["Training loss"] == [("24.17", "2.5")] and rows["TFLOP/s of a device"] == [("0.125", "0.125")]
    assert "Share of the device's peak, %" not in rows, "nobody knew the peak"


def test_each_number_has_a_drawing_with_a_line_for_each_run(tmp_path: Path) -> None:
    one, two = training_run(tmp_path / "a" / "one"), training_run(tmp_path / "b" / "two", perf=False)
    found = section(one, two)
    labels = [label for _, label in found["figures"]]
    assert len(labels) == 6 and labels[0] == "Training loss" and labels[-1] == "Time in which it waited for data, %"
    assert all("a/one" in svg for svg, _ in found["figures"]) and "b/two" in found["figures"][0][0]
    assert found["runs"] == ["a/one", "b/two"] and dict(found["rows"])["Images a second"] == [("50", "50"), ("–", "–")]


@pytest.mark.parametrize(
    ("changed", "word"),
    [({"wait": 0.4}, "waited for data 40 % of its time"), ({"gain": 0.0}, "an attack that never gained anything")],
)
def test_what_stands_out_is_said(changed: dict[str, Any], word: str, tmp_path: Path) -> None:
    assert [word in said for said in section(training_run(tmp_path / "run", **changed))["words"]] == [True]
    assert section(training_run(tmp_path / "sound"))["words"] == []


def test_a_priors_loss_is_drawn_in_its_own_part(tmp_path: Path) -> None:
    run = prior_run(tmp_path / "prior")
    (run / "perf.csv").write_text(f"{PERF}\n1,2.0,0.5,1.0,0.1\n5,4.0,0.0,1.0,0.1\n")
    labels = [label for _, label in section(run)["figures"]]
    assert labels == ["Images a second", "Time in which it waited for data, %"]
    page = build_report([run], tmp_path / "report").read_text()
    assert page.count("Training loss") == 1  # in the table


def test_what_is_no_number_is_told_with_its_line(tmp_path: Path) -> None:
    run = training_run(tmp_path / "run")
    (run / "perf.csv").write_text(f"{PERF}\n1,fast,0.5,1.0,0.1\n")
    with pytest.raises(ConfigError, match=r"perf.csv:2 is no row of numbers"):
        build_report([run], tmp_path / "report")


def test_runs_that_trained_nothing_have_no_such_part(tmp_path: Path) -> None:
    assert training_section([]) is None
