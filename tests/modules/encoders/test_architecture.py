"""Shapes tell which network a tower is of."""

from __future__ import annotations

import pytest
import timm
import torch

from modules.encoders.architecture import architecture_of, models_like
from modules.encoders.clip import load_clip


@pytest.mark.parametrize(
    ("name", "tag", "kind"),
    [
        ("ViT-L-14", "openai", "vit"),
        ("ViT-B-16", "laion2b_s34b_b88k", "vit"),
        ("RN50", "openai", "resnet"),
        ("convnext_base_w", "laion2b_s13b_b82k_augreg", "timm"),
    ],
)
def test_towers_of_open_clip_are_recognised(name: str, tag: str, kind: str) -> None:
    state = load_clip(name, tag, weights=False).image.visual.state_dict()
    found = architecture_of(state)
    assert found is not None and found.kind == kind and name in models_like(state)


def test_the_embedded_model_and_timms_are_recognised() -> None:
    assert models_like(load_clip("tiny", weights=False).image.visual.state_dict()) == ["tiny"]
    with torch.device("meta"):
        dino = timm.create_model("vit_base_patch16_224", num_classes=0).state_dict()
    assert models_like(dino) == ["timm/vit_base_patch16_224"]


def test_anything_else_is_nothing() -> None:
    assert architecture_of({"a": torch.ones(1)}) is None and models_like({"a": torch.ones(1)}) == []
