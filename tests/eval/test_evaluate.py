"""``robustclip evaluate``: which weights, and what is left in the folder."""

from __future__ import annotations

import copy
import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from configs.files import ConfigError
from configs.load import load_config
from configs.schema import EvaluateConfig, ModelConfig
from eval.detectors import without_detection
from eval.evaluate import PACKAGES, evaluate_checkpoint, fingerprint, finish_run, load_model, load_subject, write_run
from eval.results import read_results
from modules.checkpoint import save_tower
from modules.encoders.clip import CLIP

BASE = {"name": "tiny", "pretrained": ""}
SETTINGS = (
    "tasks.digits.limit=8",
    "defenses={none: {}, ttc: {calibrate: true}}",
    "attacks={apgd: {steps: 2}}",
    "views=[transfer]",
    "curve={}",
    "examples=2",
    "device=cpu",
)


def config(*overrides: str) -> EvaluateConfig:
    return load_config("evaluate", "digits", [*SETTINGS, *overrides])


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, clip: CLIP) -> Path:
    """A checkpoint of step 7 whose weights are not those of the embedded model."""
    visual = copy.deepcopy(clip.image.visual)
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter.mul_(1.01)
    return save_tower(visual, tmp_path_factory.mktemp("checkpoint") / "encoder.safetensors", step=7, base=BASE)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, changed: Path) -> Path:
    out = tmp_path_factory.mktemp("judged")
    evaluate_checkpoint(config(f"model.checkpoint={changed}", "encoder=Changed"), out, command="robustclip evaluate")
    return out


def test_a_fingerprint_names_the_weights(clip: CLIP) -> None:
    visual = copy.deepcopy(clip.image)
    assert fingerprint(visual) == fingerprint(clip.image)
    assert len(fingerprint(visual)) == 16
    with torch.no_grad():
        next(visual.parameters()).view(-1)[0] += 1e-3
    assert fingerprint(visual) != fingerprint(clip.image)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_any_precision_have_one(dtype: torch.dtype) -> None:
    one, other = nn.BatchNorm2d(3).to(dtype), nn.BatchNorm2d(3).to(dtype)  # a count of batches is among its buffers
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint(nn.BatchNorm2d(3))


def test_a_checkpoint_replaces_the_image_tower_and_says_what_it_is(changed: Path, clip: CLIP) -> None:
    found, metadata = load_subject(ModelConfig("tiny", checkpoint=str(changed)))
    assert metadata["step"] == 7
    assert fingerprint(found.image) != fingerprint(clip.image)
    assert found.text is not None and clip.text is not None
    assert fingerprint(found.text) == fingerprint(clip.text)
    assert fingerprint(load_model(ModelConfig("tiny")).image) == fingerprint(clip.image)


def test_a_checkpoint_of_another_base_is_refused_with_the_remedy(clip: CLIP, tmp_path: Path) -> None:
    other = {"name": "ViT-B-32", "pretrained": "openai"}
    path = save_tower(clip.image.visual, tmp_path / "other.safetensors", base=other)
    with pytest.raises(ConfigError, match=r"say model\.name=ViT-B-32 model\.pretrained=openai") as caught:
        load_subject(ModelConfig("tiny", checkpoint=str(path)))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no checkpoint at .*nowhere\.ckpt"):
        load_model(ModelConfig("tiny", checkpoint=str(tmp_path / "nowhere.ckpt")))


def test_an_evaluation_leaves_rows_table_config_environment_pictures_and_notes(judged: Path) -> None:
    assert {path.name for path in judged.iterdir()} == {
        "config.yaml",
        "env.json",
        "examples.json",
        "examples.safetensors",
        "notes.json",
        "outcomes-digits.json",
        "results.csv",
        "results.jsonl",
        "state",
    }
    rows = read_results(judged / "results.jsonl")
    assert {(row.encoder, row.checkpoint, row.step) for row in rows} == {("Changed", "encoder.safetensors", 7)}
    with (judged / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert len(without_detection(rows)) == 8
    environment = json.loads((judged / "env.json").read_text())
    assert environment["command"] == "robustclip evaluate"
    assert set(environment["versions"]) == {"python", *PACKAGES}
    assert environment["seconds"] > 0
    assert [note["title"] for note in json.loads((judged / "notes.json").read_text())] == ["Changed: the gate of ttc"]


def test_the_config_that_is_left_gives_the_same_evaluation(judged: Path, tmp_path: Path) -> None:
    again = load_config("evaluate", str(judged / "config.yaml"))
    evaluate_checkpoint(again, tmp_path)
    first, second = (read_results(folder / "results.jsonl") for folder in (judged, tmp_path))
    assert [replace(row, seconds=0.0) for row in first] == [replace(row, seconds=0.0) for row in second]


def test_started_again_it_reads_what_is_finished(changed: Path, judged: Path) -> None:
    before = (judged / "results.jsonl").read_text()
    evaluate_checkpoint(config(f"model.checkpoint={changed}", "encoder=Changed"), judged, command="robustclip evaluate")
    assert (judged / "results.jsonl").read_text() == before  # to the last digit of the seconds


def test_other_weights_in_a_file_of_the_same_name_are_refused(clip: CLIP, changed: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "encoder.safetensors", tmp_path / "out"
    file.write_bytes(changed.read_bytes())
    settings = config(f"model.checkpoint={file}", "defenses={none: {}}")
    evaluate_checkpoint(settings, out)
    before = {path: path.read_text() for path in (out / "state").iterdir()}
    other = copy.deepcopy(clip.image.visual)
    with torch.no_grad():
        next(other.parameters()).mul_(1.1)
    save_tower(other, file, step=7, base=BASE)
    with pytest.raises(ConfigError, match="belongs to another weights"):
        evaluate_checkpoint(settings, out)
    assert {path: path.read_text() for path in before} == before


def test_a_run_adds_up_its_phases(tmp_path: Path) -> None:
    write_run(tmp_path, config(), seed=3, command="x")
    finish_run(tmp_path, {"one": 1.234, "two": 2.0})
    environment = json.loads((tmp_path / "env.json").read_text())
    assert environment["phases"] == {"one": 1.23, "two": 2.0}
    assert environment["seconds"] == pytest.approx(3.23, abs=0.01)
    assert environment["seed"] == 3
