"""Files of weights by what is in them, and which of several tables is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from configs.schema import ModelConfig
from eval.evaluate import load_subject
from launch.exchange.inspection import inspect_weights
from modules.encoders.clip import load_clip
from modules.encoders.formats import open_weights


def tower(by: float) -> dict[str, Tensor]:
    state = load_clip("tiny", "").image.visual.state_dict()
    return {name: value + by if value.is_floating_point() else value for name, value in state.items()}


TRAINED, AVERAGE = tower(1e-3), tower(2e-3)


def wrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in state.items()}


def same(found: dict[str, Tensor], state: dict[str, Tensor]) -> bool:
    return found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("name", ["a.pth.tar", "a.model", "a", "a.pt", "a.bin.1"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_is_read_by_its_content_whatever_it_is_called(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "safetensors":
        save_file(TRAINED, path)
    else:
        torch.save({"state_dict": TRAINED}, path, _use_new_zipfile_serialization=kind == "zip")
    assert same(open_weights(path).towers.visual, TRAINED)
    assert inspect_weights(path)["container"].startswith("safetensors" if kind == "safetensors" else "torch.save")


def test_what_is_no_weights_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello, I am a text")
    (tmp_path / "b").write_bytes(b"")
    for name, reason in {"a.txt": "is not a checkpoint that can be read", "b": "is empty; fetch it again"}.items():
        with pytest.raises(ValueError, match=reason):
            open_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "trained", "average"),
    [
        ({"state_dict": wrapped(TRAINED), "state_dict_ema": wrapped(AVERAGE)}, "state_dict", "state_dict_ema"),
        ({"model": TRAINED, "model_ema": AVERAGE, "epoch": 3}, "model", "model_ema"),
        ({"model": TRAINED, "ema": AVERAGE}, "model", "ema"),
        ({"state_dict": TRAINED | {f"ema.{n}": v for n, v in AVERAGE.items()}}, None, "ema"),
    ],
)
def test_of_several_tables_the_one_that_is_read_is_said_and_can_be_chosen(
    content: dict[str, Any], trained: str | None, average: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pth.tar"
    torch.save(content, path)
    assert same(open_weights(path, average).towers.visual, AVERAGE)
    assert f"model.checkpoint_key={average}" in str(inspect_weights(path)["notes"])
    if trained is None:
        return
    found = open_weights(path)
    assert same(found.towers.visual, TRAINED) and found.towers.notes == (found.choice,)
    assert same(open_weights(path, trained).towers.visual, TRAINED)
    clip, metadata = load_subject(ModelConfig("tiny", checkpoint=str(path)))
    assert same(dict(clip.image.visual.state_dict()), TRAINED)
    assert metadata["file"]["notes"] == [found.choice] and f"model.checkpoint_key={average}" in found.choice
    assert capsys.readouterr().err.count("\n") == 1
    clip, _ = load_subject(ModelConfig("tiny", checkpoint=str(path), checkpoint_key=average))
    assert same(dict(clip.image.visual.state_dict()), AVERAGE)
    assert f"read the weights under '{average}'" in capsys.readouterr().err


def test_an_average_alone_is_read_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model_ema": AVERAGE, "epoch": 1}, path)
    found = open_weights(path)
    assert same(found.towers.visual, AVERAGE) and "as the file holds no others" in found.choice


def test_a_table_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": TRAINED, "state_dict_ema": AVERAGE}, path)
    with pytest.raises(ValueError, match="no weights under 'ema'; choose one of: state_dict, state_dict_ema"):
        open_weights(path, "ema")
