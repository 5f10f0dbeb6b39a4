"""Models of the sizes that people use, with random weights: the shipped recipes from JPEGs in class folders."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from eval.results import read_results
from tests.launch.typed import typed

BASES = {
    "fare_vit_b32_eps4": "ViT-B-32",
    "fare_convnext_b_eps4": "convnext_base_w",
    "fare_vit_b16_eps4": "ViT-B-16-SigLIP",
}
EVALUATION = """
threat: {norm: linf, eps: "${px:4}"}
tasks: {mine: {shards: images, split: test, limit: 2}}
defenses: {none: {}}
attacks: {pgd: {steps: 1, step_size: "${px:1}"}}
views: [adaptive]
batch_size: 2
examples: 0
device: cpu
"""


def write_base(name: str, folder: Path) -> dict[str, Any]:
    """Write open_clip's model of a name with random weights as a hub folder, and return its config."""
    config: dict[str, Any] = copy.deepcopy(open_clip.get_model_config(name))  # pyright: ignore[reportAssignmentType]
    if "hf_tokenizer_name" in config["text_cfg"]:  # whose files would have to be fetched; the image tower is the point
        del config["text_cfg"]["hf_tokenizer_name"], config["text_cfg"]["tokenizer_kwargs"]
        config["text_cfg"]["vocab_size"] = 49408
    config["text_cfg"] |= {"layers": 1}
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_drop_path"] = 0.0
    built = copy.deepcopy(config)
    kind: Any = open_clip.CustomTextCLIP if built.pop("custom_text", False) else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(**built)
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash" if "SigLIP" in name else "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
    return config


def write_images(root: Path) -> None:
    """Write JPEGs of several sizes in class folders, for training and testing."""
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "sea lion"):
            (root / split / label).mkdir(parents=True)
            for number, size in enumerate([(300, 200), (180, 260)]):
                pixels = draw.integers(0, 256, (size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize(size).save(root / split / label / f"{number}.JPG")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("recipe", BASES)
def test_a_model_of_full_size_goes_from_jpegs_to_open_clip(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_base(BASES[recipe], Path("base"))
    write_images(Path("images"))
    base = [f"model.name=local-dir:{tmp_path / 'base'}", "model.pretrained="]
    small = ["optimizer.max_steps=2", "optimizer.warmup_steps=1", "data.batch_size=2", "data.workers=0"]
    where = ["data.shards=images", "trainer.checkpoint_every=2", "trainer.accelerator=cpu", "trainer.devices=1"]
    code = typed(monkeypatch, "finetune", recipe, *base, *small, *where, "--out", "run")
    assert code == 0, capsys.readouterr().err
    encoder = "run/export/encoder.safetensors"
    tuned, original = load_file(encoder), load_file("base/open_clip_model.safetensors")
    assert sum(not torch.equal(value, original[f"visual.{name}"]) for name, value in tuned.items()) > 50

    Path("ev.yaml").write_text(EVALUATION)
    assert typed(monkeypatch, "evaluate", encoder, "ev.yaml", *base, "--out", "ev") == 0, capsys.readouterr().err
    assert {row.n for row in read_results(Path("ev/results.jsonl"))} == {2}

    assert typed(monkeypatch, "model", "export", encoder, "hub", "--to", "open-clip") == 0, capsys.readouterr().err
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'hub'}")  # pyright: ignore
    theirs = model.state_dict()
    assert all(torch.equal(theirs[f"visual.{name}"], value) for name, value in tuned.items())
    image: Any = preprocess(Image.open("images/test/cat/0.JPG"))  # pyright: ignore[reportCallIssue]
    assert torch.isfinite(model.eval().encode_image(image[None])).all()  # pyright: ignore[reportCallIssue]
