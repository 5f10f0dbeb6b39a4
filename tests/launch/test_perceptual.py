"""``robustclip perceptual`` as a user meets it: trained, judged, taken to open_clip, and refused in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from configs.schema import ModelConfig
from eval.evaluate import load_subject
from eval.results import read_results
from launch.evaluation import told_by
from tests.close import assert_close_to_rounding
from tests.launch.typed import typed

SMALL = [
    "optimizer.max_steps=2",
    "optimizer.lr=0.01",
    "data.batch_size=8",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
]
Here = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Here:
    """The command in this process, from an empty folder: exit code, standard output, lines of standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        code = typed(monkeypatch, *arguments)
        told = capsys.readouterr()
        return code, told.out, told.err.splitlines()

    return run


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (["tiny", "model.head=a/mine.safetensors"], "tiny + mine"),
        (["robust.safetensors", "model.head=mine.safetensors"], "robust + mine"),
        (["robust.safetensors"], "robust"),
        (["robust.safetensors", "model.head=null"], "robust"),
    ],
)
def test_rows_tell_a_head_by_name(said: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("robust.safetensors").touch()
    assert f'encoder="{name}"' in told_by(said[0], said[1:])
    mine = [*said[1:], "encoder=own"]
    assert not any(text.startswith("encoder=") for text in told_by(said[0], mine))


@pytest.mark.slow
def test_open_clip_computes_what_merged_lora_does(here: Here, tmp_path: Path) -> None:
    code, out, errors = here("perceptual", "lora_tiny", *SMALL, "evaluation=null", "--out", "run")
    assert code == 0 and "encoder: run/export/encoder.safetensors" in out, errors
    file = "run/export/encoder.safetensors"
    assert here("model", "export", file, "theirs", "--to", "open-clip")[0] == 0
    model: Any = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'theirs'}")[0]  # pyright: ignore
    model.eval().requires_grad_(False)
    image = load_subject(ModelConfig("tiny", checkpoint=file))[0].image.freeze()
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert_close_to_rounding(image.encode_image(x), model.encode_image((x - image.mean) / image.std))
        assert not torch.allclose(image.encode_image(x), load_subject(ModelConfig("tiny"))[0].image.encode_image(x))


@pytest.mark.slow
def test_a_head_is_told_for_what_it_is(here: Here) -> None:
    assert here("perceptual", "mlp_tiny", *SMALL, "evaluation=null", "--out", "run")[0] == 0
    head = "run/export/head.safetensors"
    found = json.loads(here("model", "inspect", head, "--json")[1])
    assert found["format"] == "residual_head" and found["image_tower"] is None and "model.head" in found["title"]
    few = ("tasks.digit-triplets.limit=6", "attacks.apgd.steps=2", "examples=0", "--out", "judged")
    assert here("evaluate", "tiny", "choice_digits", f"model.head={head}", *few)[0] == 0
    (row, *_) = read_results(Path("judged/results.jsonl"))
    assert (row.encoder, row.checkpoint) == ("tiny + head", "tiny + head.safetensors")
    wrong: dict[tuple[Any, ...], str] = {
        ("evaluate", head, "choice_digits"): "is a head, not an encoder",
        ("evaluate", "tiny", "choice_digits", "model.head=none.safetensors"): "no checkpoint at none.safetensors",
        ("model", "export", head, "out", "--to", "open-clip"): "is a head, not an encoder",
        ("perceptual", "mlp_tiny", f"model.checkpoint={head}"): "is a head, not an encoder",
        ("perceptual", "mlp_tiny", "data.shards=none"): "no folder of triplets at 'none'",
        ("perceptual", "lora_vit_b16"): "data.shards is missing",
        ("perceptual", "lora_tini"): "unknown perceptual recipe 'lora_tini'",
    }
    for words, told in wrong.items():
        code, _, errors = here(*words)
        assert (code, len(errors)) == (2, 1) and told in errors[0], errors
