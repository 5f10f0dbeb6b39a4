"""``robustclip replay`` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.files import ConfigError
from configs.load import load_config
from launch.replay import config_of, run_replay, words
from modules.lightning.finetuning import AdversarialFineTuning
from tests.train.pair import plant
from train.finetune import finetune
from train.replay import Replay
from train.replay_state import Before
from train.replay_step import Sample, Share
from train.runs import open_run

NUMBERS: dict[str, int | None] = {"step": None, "retrain": 200, "gradients": 256, "worst": 4, "processes": None}
FEW = ["evaluation=null", "optimizer.max_steps=3", "optimizer.warmup_steps=1", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second step was left out."""
    said = [*FEW, "attack.steps=1", "data.batch_size=16", "trainer.checkpoint_every=2", "trainer.log_every=1"]
    opened = open_run("fare", load_config("finetune", "fare_tiny_eps4", said), tmp_path_factory.mktemp("r") / "run")
    original = plant(AdversarialFineTuning, {"what": "gradient", "step": 1})
    try:
        finetune(opened)
    finally:
        AdversarialFineTuning.training_step = original
    return opened.folder


def test_the_newest_step_that_was_noted_is_shown_sample_by_sample(run: Path, capsys: Any) -> None:
    run_replay(run, ["trainer.accelerator=cpu"], NUMBERS)
    told = capsys.readouterr().out
    assert "inner loss, start" in told and told.count("digits-") == 12 and "… and 4 more" in told
    assert "step 2: loss" in told and "left out then, for a gradient that was not finite" in told
    assert "the recipe's start, then 1 steps trained anew, with the losses of metrics.csv, digit for digit" in told
    assert "samples: the 16 that were noted" in told and "look for the fault in the machine" in told
    assert json.loads((run / "replay" / "step=000002" / "record.json").read_text())["step"] == 2


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"step": 0}, "--step is 0; it must be at least 1"),
        ({"retrain": -1}, "--retrain is -1; it must be at least 0"),
        ({"processes": 0}, "--processes is 0; it must be at least 1"),
        ({"step": 4}, "--step 4: the run has steps 1 to 3"),
        ({"step": 2, "retrain": 0}, "say --retrain 1, or a step up to 1"),
        ({"step": 2, "processes": 5}, "5 processes cannot have shared a batch of 16"),
    ],
)
def test_numbers_that_mean_nothing_are_refused_in_a_line(numbers: Any, reason: str, run: Path) -> None:
    with pytest.raises(ConfigError, match=reason) as told:
        run_replay(run, [], NUMBERS | numbers)
    assert "\n" not in str(told.value)


def test_folders_that_hold_no_training_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run: it has no config.yaml"):
        config_of(tmp_path, [])
    (tmp_path / "config.yaml").write_text("optimizer: {max_steps: 3}\n")
    with pytest.raises(ConfigError, match="a run of another kind; replay is for finetune and prior runs"):
        config_of(tmp_path, [])


def test_it_is_the_work_of_one_process(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="the work of one process"):
        run_replay(run, [], NUMBERS)


def told(*, note: Any = None, same: bool | None = None, processes: int = 1, **before: Any) -> str:
    nothing: Any = None
    samples = [Sample("a", 0, None, None, 300.0, 1.0), Sample("\x1b[31mb", 0, None, None, 1.0)]
    share = Share(samples, 2.0, None, None, lambda i: nothing)
    shown = Replay(Before(nothing, nothing, 7, **before), note, [[share]] * processes, Path("out"))
    shown.same_samples = same
    return "\n".join(words(shown))


def test_words_say_what_is_known_and_what_is_not() -> None:
    spike = {"loss": 100.0, "median": 2.0, "ratio": 10, "left_out": True, "samples_by_process": [["a", "b"]]}
    assert "50 times the median then, left out" in told(note=spike)
    assert "to blame: a" in told(note=spike).splitlines()
    assert "gradients: of 1 of 2 samples" in told() and "every sample is finite" in told()
    assert "no sample by itself; the loss is high all over" in told(note={**spike, "ratio": 1000})
    assert "samples: NOT those that were noted" in told(same=False) and "samples:" not in told()
    here = {"checkpoint": Path("runs/x/step=000004.ckpt"), "anew": 2}
    assert "step=000004.ckpt, then 2 steps trained anew, with OTHER losses" in told(**here, repeats=False)
    assert "no line to compare with" in told(**here)
    assert "2 processes shared the step" in told(processes=2) and "sums differ" not in told(processes=2)
    assert "sums differ in the last bits" in told(processes=2, **here)


def test_names_of_samples_cannot_speak_to_the_terminal() -> None:
    note = {"broken": ["loss"], "samples_by_process": []}
    nothing: Any = None
    sample = Sample("\x1b[31mb", 0, None, None, float("nan"), None, ["loss"])
    shown = Replay(Before(nothing, nothing, 7), note, [[Share([sample], 1.0, None, None, lambda i: nothing)]], Path())
    assert "to blame: b" in words(shown)
