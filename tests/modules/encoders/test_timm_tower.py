"""timm's towers are encoders without classes: FARE trains them, zero-shot tasks refuse them in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from modules.encoders.clip import load_clip
from modules.encoders.fitting import fit_weights
from modules.encoders.formats import open_weights
from tests.close import assert_close_to_rounding
from tests.modules.encoders.foreign import moved

NAME = "timm/vit_tiny_patch16_224.augreg_in21k"


def classifier(seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model("vit_tiny_patch16_224", num_classes=10).eval()


def tower(seed: int = 0) -> Any:
    model = classifier(seed)
    model.reset_classifier(0)
    return model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timm") / "base.pth"
    torch.save({"state_dict": classifier().state_dict()}, path)
    return path


def test_a_tower_of_a_file_gives_timms_embeddings_without_the_classifier(base: Path) -> None:
    clip = load_clip(NAME, str(base))
    assert clip.text is None and clip.image.embedding_dim == 192 and clip.image.image_size == 224
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tower()((x - 0.5) / 0.5)  # this tag's own mean and standard deviation
        assert_close_to_rounding(clip.image.encode_image(x), expected)


def test_fine_tuned_weights_and_only_those_go_into_it(base: Path, tmp_path: Path) -> None:
    clip = load_clip(NAME, str(base))
    tuned = moved(tower().state_dict())
    torch.save(tuned, tmp_path / "fare.pt")
    assert fit_weights(clip, open_weights(tmp_path / "fare.pt"))["format"] == "timm"
    assert all(torch.equal(value, tuned[name]) for name, value in clip.image.visual.state_dict().items())
    torch.save(tower(seed=7).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match="was not fine-tuned from timm/vit_tiny"):
        fit_weights(load_clip(NAME, str(base)), open_weights(tmp_path / "other.pt"))


def test_shapes_come_without_weights() -> None:
    clip = load_clip(NAME, weights=False)
    assert clip.image.embedding_dim == 192 and next(clip.image.parameters()).is_meta


def test_another_resolution_is_built() -> None:
    assert load_clip(NAME, weights=False, image_size=96).image.image_size == 96


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "timm/vit_tinny_patch16_224",
            "unknown model 'timm/vit_tinny_patch16_224'; near it: .*timm/vit_tiny_patch16_224",
        ),
        (
            "timm/vit_tiny_patch16_224.nope",
            "timm has no weights 'vit_tiny_patch16_224.nope'; choose a tag of: .*augreg_in21k",
        ),
        ("timm/hf-hub:some/model", "unknown model"),
    ],
)
def test_what_is_not_to_be_had_is_told_in_a_line(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        load_clip(name)
    assert "\n" not in str(caught.value)
