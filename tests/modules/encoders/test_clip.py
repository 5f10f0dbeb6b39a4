"""Encoders over open_clip: normalisation inside, the right activation, text kept frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from modules.encoders.clip import CLIP, load_clip
from modules.encoders.tiny import TOKEN_TABLE, WEIGHTS, load_tiny, new_tiny, save_tiny, token_table
from tests.close import assert_close_to_rounding


@pytest.fixture(scope="module")
def tiny() -> CLIP:
    return load_tiny()


def activations(clip: CLIP) -> set[str]:
    return {type(m).__name__ for m in clip.image.modules() if "GELU" in type(m).__name__}


def test_pixels_are_normalised_inside(tiny: CLIP) -> None:
    x = torch.rand(2, 3, 32, 32)
    by_hand = tiny.image.visual((x - tiny.image.mean) / tiny.image.std)
    assert torch.equal(tiny.image.encode_image(x), by_hand)


def test_images_of_another_size_are_resized_and_keep_their_gradient(tiny: CLIP) -> None:
    x = torch.rand(2, 3, 48, 40, requires_grad=True)
    (grad,) = torch.autograd.grad(tiny.image.encode_image(x).sum(), x)
    assert grad.shape == x.shape and grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32)])
def test_what_is_no_batch_of_rgb_images_is_refused(tiny: CLIP, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images \\[B, 3, H, W\\], not"):
        tiny.image.encode_image(torch.rand(shape))


@pytest.mark.parametrize(
    ("name", "tag", "activation", "parameters", "mean"),
    [
        ("ViT-L-14", "openai", "QuickGELU", 303_966_208, 0.4815),
        ("ViT-B-32", "openai", "QuickGELU", 87_849_216, 0.4815),
        ("ViT-B-32", "laion2b_s34b_b79k", "GELU", 87_849_216, 0.4815),
        ("ViT-L-14", "laion2b_s32b_b82k", "GELU", 303_966_208, 0.5),
    ],
)
def test_activation_and_statistics_follow_the_weights_tag(
    name: str, tag: str, activation: str, parameters: int, mean: float
) -> None:
    clip = load_clip(name, tag, weights=False)
    assert activations(clip) == {activation}
    assert sum(p.numel() for p in clip.image.parameters()) == parameters
    assert float(clip.image.mean.flatten()[0]) == pytest.approx(mean, abs=1e-4)
    assert next(clip.image.parameters()).is_meta


def test_the_resolution_can_be_set() -> None:
    clip = load_clip("convnext_base_w", "laion2b_s13b_b82k_augreg", image_size=224, weights=False)
    assert clip.image.image_size == 224 and clip.image.embedding_dim == 640


def test_unknown_models_and_tags_are_told_with_what_is_near() -> None:
    with pytest.raises(ValueError, match="unknown model 'ViT-L-15'; near it: .*ViT-L-14"):
        load_clip("ViT-L-15", "openai")
    with pytest.raises(ValueError, match="no weights 'opneai'; choose one of: openai"):
        load_clip("ViT-L-14", "opneai")


def test_loading_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    load_tiny()
    assert torch.equal(before, torch.random.get_rng_state())


def test_text_embeddings_are_unit_vectors_of_a_frozen_tower(tiny: CLIP) -> None:
    assert tiny.text is not None
    z = tiny.text.encode_text(["a photo of a three", "the number two"])
    assert torch.allclose(z.norm(dim=1), torch.ones(2), atol=1e-5)
    assert not any(p.requires_grad for p in tiny.text.parameters())


def test_token_states_end_with_the_text_and_give_its_embedding(tiny: CLIP) -> None:
    text: Any = tiny.text
    states = text.token_states(["the number two", "a photo of a three"])
    ends = (states.norm(dim=-1) > 0).sum(dim=1)
    assert ends.tolist() == [5, 7]  # start, words, end
    last = states[torch.arange(2), ends - 1]
    assert torch.allclose(
        F.normalize(last @ text.model.text_projection, dim=1),
        text.encode_text(["the number two", "a photo of a three"]),
        atol=1e-5,
    )


def test_the_shipped_weights_are_small_and_the_token_table_is_rebuilt(tiny: CLIP) -> None:
    assert WEIGHTS.stat().st_size < 4_000_000
    assert TOKEN_TABLE not in load_file(WEIGHTS)
    table = token_table()
    assert torch.equal(table, token_table())
    assert abs(float(table.std()) - 0.02) < 1e-4


def test_a_tiny_model_round_trips_through_its_file(tmp_path: Path) -> None:
    model = new_tiny(3)
    path = save_tiny(model, tmp_path / "m.safetensors", note="x")
    x = torch.rand(2, 3, 32, 32)
    loaded = load_tiny(path=path)
    half = {k: v.half().float() for k, v in model.state_dict().items() if k != TOKEN_TABLE}
    model.load_state_dict(half, strict=False)
    with torch.no_grad():
        expected = model.eval().visual((x - loaded.image.mean) / loaded.image.std)
        assert_close_to_rounding(loaded.image.encode_image(x), expected)


def test_a_foreign_or_damaged_file_is_no_tiny_model(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(WEIGHTS.read_bytes()[:5000])
    for path in (foreign, damaged, tmp_path / "missing.safetensors"):
        with pytest.raises(ValueError, match="is not a tiny model"):
            load_tiny(path=path)
