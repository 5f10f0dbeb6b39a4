"""What a recipe may say of trackers."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from configs.files import ConfigError
from configs.load import load_config
from configs.trackers import TRACKERS, tracker_faults


def test_a_missing_package_and_strange_options_are_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configs.trackers.find_spec", lambda name: None)
    words = ["trainer.trackers=[wandb, tensorflow]", "trainer.tracker_options={mlflow: {}, wandb: {projekt: x}}"]
    with pytest.raises(ConfigError) as refused:
        load_config("finetune", "fare_tiny_eps4", words)
    assert {line for line in str(refused.value).splitlines() if "tracker" in line} == {
        "trainer.trackers: unknown tracker 'tensorflow'; choose of: tensorboard, wandb, mlflow",
        "trainer.trackers: wandb is not installed; install it: pip install -e '.[wandb]'",
        "trainer.tracker_options.wandb: unknown option 'projekt'; choose of: project, entity, offline",
        "trainer.tracker_options.mlflow: trainer.trackers does not name mlflow; add it there",
    }


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"wandb": 3}, "trainer.tracker_options.wandb is 3; it must be options by name, such as {project: …}"),
        ({"wandb": {"offline": "yes"}}, "trainer.tracker_options.wandb.offline is 'yes'; it must be true or false"),
        ({"wandb": {"project": 1}}, "trainer.tracker_options.wandb.project is 1; it must be a text"),
    ],
)
def test_options_have_kinds(said: Any, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configs.trackers.find_spec", lambda name: ModuleSpec(name, None, origin=name))
    assert tracker_faults({"trackers": ["wandb"], "tracker_options": said}) == [fault]


def test_a_folder_that_a_tracker_keeps_its_runs_in_is_not_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "robustclip_tracker").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(TRACKERS, "robustclip_tracker", {})
    (fault,) = tracker_faults({"trackers": ["robustclip_tracker"], "tracker_options": {}})
    assert "is not installed" in fault


def test_a_peak_is_above_zero() -> None:
    with pytest.raises(ConfigError, match=r"trainer.peak_tflops is -1.0; it must be above 0"):
        load_config("finetune", "fare_tiny_eps4", ["trainer.peak_tflops=-1.0"])
