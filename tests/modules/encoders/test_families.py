"""Every family that open_clip builds is loaded, prepared and differentiated as open_clip does it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from data.transforms import decode_image
from eval.framing import framing_of
from modules.encoders import CLIP, load_clip
from modules.encoders.clip import TINY
from modules.encoders.fitting import fit_weights
from modules.encoders.formats import open_weights
from modules.zero_shot import zero_shot_head
from tests.families import FAMILIES, TIMM_TOWERS, build, register_small_towers, write_family, write_timm_tower

TAKEN = [name for name, family in FAMILIES.items() if not family.refused]
TEXTS = ["a photo of a cat.", "the number two, drawn by hand"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Hub folders of families, each written once: name of the family -> name of the model."""
    root, written = tmp_path_factory.mktemp("hub"), {}

    def name_of(family: str) -> str:
        if family not in written:
            written[family] = write_family(family, root / family)
        return written[family]

    return name_of


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    """A real JPEG, no square, with edges and color."""
    y, x = np.mgrid[:90, :130]
    pixels = np.stack([x * 2 % 256, (y * 5 + x) % 256, (x * y // 9) % 256], axis=2).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def close(ours: Tensor, theirs: Tensor) -> None:
    """Equal up to what single precision rounds in a network of a few layers."""
    assert ours.shape == theirs.shape and theirs.abs().max() > 0
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 2e-4


def loaded(model: str, **settings: Any) -> CLIP:
    return load_clip(model, **settings)


@pytest.mark.parametrize("family", TAKEN)
def test_an_image_file_has_open_clips_embedding_and_logits(family: str, hub: Any, jpeg: bytes) -> None:
    clip, name = loaded(hub(family)), hub(family)
    theirs: Any
    theirs, _, preprocess = open_clip.create_model_and_transforms(name)  # pyright: ignore[reportGeneralTypeIssues]
    theirs.eval()
    x = framing_of(clip.image).pixels(decode_image(jpeg))[None]
    with torch.no_grad():
        image: Any = preprocess(Image.open(io.BytesIO(jpeg)))  # pyright: ignore[reportCallIssue]
        settings = {"normalize": False} if "coca" in family else {}
        z = theirs.encode_image(image[None], **settings)  # pyright: ignore[reportCallIssue]
        close(clip.image(x), z)
        text = theirs.encode_text(open_clip.get_tokenizer(name)(TEXTS))  # pyright: ignore[reportCallIssue]
        bias = getattr(theirs, "logit_bias", None)
        logits = theirs.logit_scale.exp() * F.normalize(z, dim=-1) @ F.normalize(text, dim=-1).T
        logits = logits if bias is None else logits + bias
        assert clip.text is not None
        head = zero_shot_head(clip.text, TEXTS, ["{}"], logit_scale=clip.logit_scale, logit_bias=clip.logit_bias)
        close(head(clip.image(x)), logits.reshape(1, -1))
    assert (clip.logit_bias != 0) == ("siglip" in family)


@pytest.mark.parametrize("family", TAKEN)
def test_the_image_tower_trains_and_the_text_tower_does_not(family: str, hub: Any) -> None:
    clip, model = loaded(hub(family)), build(family)
    trained = {name for name, value in clip.image.visual.named_parameters() if value.requires_grad}
    assert trained == {name for name, value in model.visual.named_parameters() if value.requires_grad}
    assert len(trained) > 10 and clip.text is not None
    assert not any(value.requires_grad for value in clip.text.parameters())
    assert not any(name.startswith("model.visual") for name, _ in clip.text.named_parameters())
    clip.image.train()
    size = clip.image.image_size
    clip.image(torch.rand(2, 3, size, size)).square().sum().backward()
    unmoved = {name for name, value in clip.image.visual.named_parameters() if name in trained and value.grad is None}
    assert unmoved == set()


@pytest.mark.parametrize("family", TAKEN)
def test_gradients_of_pixels_agree_with_finite_differences(family: str, hub: Any) -> None:
    encoder = loaded(hub(family)).image.freeze().double()
    generator = torch.Generator().manual_seed(0)
    size = encoder.image_size
    x = torch.rand(1, 3, size, size, generator=generator, dtype=torch.float64)
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    to = torch.randn(encoder.embedding_dim, generator=generator, dtype=torch.float64)

    def value(x: Tensor) -> Tensor:
        return (encoder(x) @ to).sum()

    point = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(value(point), point)
    assert grad.flatten(2).abs().amax(dim=2).min() > 0, "a channel without a gradient"
    step = 1e-6
    with torch.no_grad():
        expected = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float((grad * direction).sum()) == pytest.approx(float(expected), rel=2e-3, abs=1e-7)


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.refused])
def test_what_a_family_cannot_do_is_one_line(family: str, hub: Any) -> None:
    with pytest.raises(ValueError, match=FAMILIES[family].refused) as error:
        loaded(hub(family))
    assert "\n" not in str(error.value)


def test_a_model_of_oblong_images_takes_square_ones_where_that_is_asked_for(hub: Any) -> None:
    clip = loaded(hub("vit-not-square"), image_size=48)
    assert clip.image(torch.rand(1, 3, 48, 48)).shape == (1, 24)


@pytest.mark.parametrize("family", ["vit", "siglip", "convnext", "clipa", "eva02", "mobileclip"])
def test_another_resolution_is_open_clips(family: str, hub: Any) -> None:
    size = 2 * loaded(hub(family)).image.image_size
    clip = loaded(hub(family), image_size=size)
    theirs = open_clip.create_model(hub(family), force_image_size=size).eval()
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        close(clip.image(x), theirs.encode_image((x - clip.image.mean) / clip.image.std))  # pyright: ignore


def test_a_resnets_attention_pool_is_interpolated_too(hub: Any) -> None:
    own, other = loaded(hub("resnet")), loaded(hub("resnet"), image_size=96)
    pool: Any = other.image.visual.attnpool
    assert len(pool.positional_embedding) == 3 * 3 + 1 and pool.positional_embedding.requires_grad
    assert torch.equal(pool.positional_embedding[0], own.image.visual.attnpool.positional_embedding[0])  # pyright: ignore
    with torch.no_grad():
        x = torch.rand(2, 3, 64, 64)
        large, small = other.image(F.interpolate(x, 96, mode="bilinear")), own.image(x)
    assert F.cosine_similarity(large, small).min() > 0.9
    with pytest.raises(ValueError, match=r"in steps of 32 pixels; say model\.image_size=96, not 100"):
        loaded(hub("resnet"), image_size=100)


@pytest.mark.parametrize("family", ["vit", "resnet", "convnext", "siglip", "coca", "mobileclip"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_load(family: str, dtype: torch.dtype, hub: Any, tmp_path: Path) -> None:
    own = loaded(hub(family))
    half = loaded(write_family(family, tmp_path / "half", dtype=dtype))
    x = torch.rand(1, 3, own.image.image_size, own.image.image_size)
    with torch.no_grad():
        z, rounded = own.image(x), half.image(x)
    assert rounded.dtype == torch.float32
    assert F.cosine_similarity(z, rounded).min() > 0.99
    moved = {
        k: (v + 0.01 * v.std(correction=0)).to(dtype) if v.is_floating_point() else v
        for k, v in own.image.visual.state_dict().items()
    }
    torch.save(moved, tmp_path / "tuned.pt")
    fit_weights(own, open_weights(tmp_path / "tuned.pt"))
    assert all(value.dtype == torch.float32 for value in own.image.visual.parameters())


@pytest.mark.parametrize("family", ["vit", "vit-eos", "clipa", "siglip", "coca"])
def test_token_states_are_those_that_the_tower_reads(family: str, hub: Any) -> None:
    text: Any = loaded(hub(family)).text
    z, states = text.read(TEXTS)
    assert torch.equal(z, text.encode_text(TEXTS))
    ids = text.tokenize(TEXTS)
    present = states.norm(dim=-1) > 0
    words = (ids != 0).sum(dim=1)
    if family in ("clipa", "siglip"):  # they read their padding like words
        assert present.all()
    else:
        assert present.sum(dim=1).tolist() == words.tolist()
    if family in ("vit", "vit-eos", "clipa", "siglip"):  # the token that is pooled gives the embedding
        at = ids.argmax(dim=1) if family.startswith("vit") else torch.full((2,), ids.shape[1] - 1)
        pooled = states[torch.arange(2), at]
        projection = text.tower.text_projection
        projected = projection(pooled) if isinstance(projection, torch.nn.Module) else pooled @ projection
        close(F.normalize(projected, dim=-1), z)


def test_the_embedded_model_takes_the_same_way_as_every_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from modules.encoders import clip, tiny

    taken: list[str] = []
    original = clip.assemble

    def noted(model: Any, name: str, *args: Any, **settings: Any) -> CLIP:
        taken.append(name)
        return original(model, name, *args, **settings)

    for place in (clip, tiny):
        monkeypatch.setattr(place, "assemble", noted)
    assert load_clip(TINY, image_size=64).image(torch.rand(1, 3, 64, 64)).shape == (1, 128)
    assert taken == [TINY]


@pytest.mark.parametrize("name", TIMM_TOWERS)
def test_a_tower_of_timm_is_timms(name: str, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import load_file

    model = write_timm_tower(name, tmp_path / "w.safetensors")
    clip = load_clip(model, str(tmp_path / "w.safetensors"), image_size=32)
    theirs = timm.create_model(name, num_classes=0).eval()
    theirs.load_state_dict(load_file(tmp_path / "w.safetensors"))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        close(clip.image(x), theirs((x - clip.image.mean) / clip.image.std))
    assert clip.text is None and all(value.requires_grad for value in clip.image.parameters())


def test_an_image_tower_needs_no_tokenizer_and_a_text_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_small_towers()
    monkeypatch.setitem(FAMILIES["siglip"].config["text_cfg"], "hf_tokenizer_name", "timm/nothing")
    clip = load_clip(write_family("siglip", tmp_path / "siglip"))
    assert clip.image(torch.rand(1, 3, 32, 32)).shape == (1, 32)
    assert clip.text is not None
    with pytest.raises(
        ValueError, match=r"tokenizer.*pip install 'robustclip\[transformers\]'|cannot load the tokenizer"
    ) as e:
        clip.text.encode_text(["a cat"])
    assert "\n" not in str(e.value)


def test_a_tokenizer_of_another_tower_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = FAMILIES["vit"].config
    monkeypatch.setitem(config, "text_cfg", config["text_cfg"] | {"vocab_size": 1000})
    clip = load_clip(write_family("vit", tmp_path / "vit"))
    assert clip.text is not None
    with pytest.raises(ValueError, match="gives token 49407, and the text tower knows only 1000 tokens"):
        clip.text.encode_text(["a cat"])


def test_a_folder_of_other_weights_says_which_tensors_differ(tmp_path: Path) -> None:
    name = write_family("resnet", tmp_path / "resnet")
    file = tmp_path / "resnet" / "open_clip_config.json"
    file.write_text(file.read_text().replace('"image_size": 64', '"image_size": 96'))
    with pytest.raises(ValueError, match=re.escape("size mismatch for visual.attnpool.positional_embedding")):
        load_clip(name)
