"""Models out: what others load from our files is what we would have computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

from configs.files import ConfigError
from configs.schema import ModelConfig
from data.transforms import resize_and_crop
from eval.evaluate import load_subject
from launch.exchange.export import run_export
from launch.exchange.subject import Wanted
from modules.checkpoint import load_tower, save_tower
from modules.encoders.clip import CLIP
from modules.encoders.tiny import load_tiny
from tests.close import assert_close_to_rounding
from tests.modules.encoders.foreign import CONFIG, PIXELS, moved, new_clip, write_hub

TEXTS = ["a photo of a three", "a red cat"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_hub(tmp_path_factory.mktemp("base") / "hub", new_clip())


@pytest.fixture(scope="module")
def source(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned tower."""
    visual = new_clip().visual
    visual.load_state_dict(moved(visual.state_dict(), by=0.02))
    file = tmp_path_factory.mktemp("source") / "encoder.safetensors"
    return save_tower(visual, file, base={"name": base, "pretrained": ""}, step=7, objective="fare")


@pytest.fixture(scope="module")
def ours(base: str, source: Path) -> CLIP:
    clip = load_subject(ModelConfig(base, checkpoint=str(source)))[0]
    clip.image.freeze()
    return clip


def picture() -> Image.Image:
    pixels = torch.randint(0, 256, (41, 57, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Image.fromarray(pixels.numpy())


def theirs(folder: Path) -> tuple[Any, Any, Any]:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")  # pyright: ignore
    model.eval().requires_grad_(False)  # as ours: torch takes other kernels for weights that want gradients
    return model, preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")


def test_open_clip_computes_the_very_logits_from_our_folder(source: Path, ours: CLIP, tmp_path: Path) -> None:
    run_export(str(source), tmp_path / "out", "open-clip", wanted=Wanted(), results=[])
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "open_clip_model.safetensors",
        "open_clip_config.json",
    }
    model, preprocess, tokenizer = theirs(tmp_path / "out")
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert ours.text is not None
    with torch.no_grad():
        image = torch.nn.functional.normalize(ours.image.encode_image(x), dim=-1)
        their_image = model.encode_image((x - ours.image.mean) / ours.image.std, normalize=True)
        text = ours.text.encode_text(TEXTS)
        their_text = model.encode_text(tokenizer(TEXTS), normalize=True)
        assert_close_to_rounding(image, their_image)
        assert_close_to_rounding(text, their_text)
        assert float(model.logit_scale.exp()) == pytest.approx(ours.logit_scale, rel=1e-6)
        own = ours.image.encode_image(resize_and_crop(picture(), 32)[None])
        assert_close_to_rounding(own, model.encode_image(preprocess(picture())[None]))


def test_a_folder_comes_back_in_as_a_model_and_as_weights_of_its_base(
    base: str, source: Path, ours: CLIP, tmp_path: Path
) -> None:
    run_export(str(source), tmp_path / "out", "open-clip", wanted=Wanted(), results=[])
    for config in (ModelConfig(f"local-dir:{tmp_path / 'out'}"), ModelConfig(base, checkpoint=str(tmp_path / "out"))):
        again = load_subject(config)[0]
        own, found = ours.image.visual.state_dict(), again.image.visual.state_dict()
        assert all(torch.equal(own[name], found[name]) for name in own)
        assert torch.allclose(again.image.mean, ours.image.mean)


def test_an_exported_folder_is_exported_again_with_its_activation_and_pixels(tmp_path: Path) -> None:
    write_hub(tmp_path / "in", new_clip())
    run_export(str(tmp_path / "in"), tmp_path / "out", "open-clip", wanted=Wanted(), results=[])
    said = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert said["model_cfg"] | {} == CONFIG and said["preprocess_cfg"] == PIXELS
    one, other = (theirs(tmp_path / name)[0].state_dict() for name in ("in", "out"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_tower_alone_is_a_flat_dictionary_that_comes_back(source: Path, ours: CLIP, tmp_path: Path) -> None:
    run_export(str(source), tmp_path / "robust.pt", "visual-pt", wanted=Wanted(), results=[])
    state = torch.load(tmp_path / "robust.pt", weights_only=True)
    assert state.keys() == ours.image.visual.state_dict().keys()
    assert all(type(value) is torch.Tensor for value in state.values())
    visual = new_clip(seed=4).visual
    load_tower(visual, tmp_path / "robust.pt")
    assert all(torch.equal(value, state[name]) for name, value in visual.state_dict().items())


def test_the_base_may_be_told_where_the_file_is_silent(base: str, source: Path, tmp_path: Path) -> None:
    run_export(str(source), tmp_path / "silent.pt", "visual-pt", wanted=Wanted(), results=[])
    silent = str(tmp_path / "silent.pt")
    with pytest.raises(ConfigError, match="say --model NAME --pretrained TAG"):
        run_export(silent, tmp_path / "out", "open-clip", wanted=Wanted(), results=[])
    run_export(silent, tmp_path / "out", "open-clip", wanted=Wanted(model=base), results=[])
    assert (tmp_path / "out" / "open_clip_config.json").is_file()


@pytest.mark.slow
def test_the_embedded_model_is_exported_by_its_name(tmp_path: Path) -> None:
    run_export("tiny", tmp_path / "out", "open-clip", wanted=Wanted(), results=[])
    clip, (model, preprocess, tokenizer) = load_tiny(), theirs(tmp_path / "out")
    clip.image.freeze()
    assert clip.text is not None
    with torch.no_grad():
        z = model.encode_image(preprocess(picture())[None])
        assert_close_to_rounding(z, clip.image.encode_image(resize_and_crop(picture(), 32)[None]))
        assert_close_to_rounding(model.encode_text(tokenizer(TEXTS), normalize=True), clip.text.encode_text(TEXTS))


def test_what_cannot_be_exported_is_told_and_nothing_is_left(source: Path, tmp_path: Path) -> None:
    def refused(told: str, what: str = str(source), out: str = "new", to: str = "hub", **settings: Any) -> None:
        with pytest.raises(ValueError, match=told):
            run_export(what, tmp_path / out, to, wanted=Wanted(), results=settings.pop("results", []), **settings)

    (tmp_path / "there").mkdir()
    refused("unknown --to 'onnx'; choose one of: open-clip", to="onnx")
    refused("there exists", out="there")
    refused("no checkpoint at missing.pt", what="missing.pt")
    refused("should end in .pt", to="visual-pt")
    refused("say --to hub", to="open-clip", licence="mit")
    refused("holds no results.jsonl", what=str(tmp_path / "there"), to="robustbench")
    refused("no results at", results=[tmp_path / "there"])
    refused("unknown model 'nothing'", what="nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
