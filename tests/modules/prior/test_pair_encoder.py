from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.encoders.clip import CLIP
from modules.encoders.tiny import load_tiny
from modules.prior.pair_encoder import PairEncoder

CAPTIONS = ("a handwritten two", "the number three", "a handwritten two", "the number four")
KEYS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return load_tiny()


def pictures(clip: CLIP, **changed: Any) -> Any:
    x = torch.rand(4, 3, clip.image.image_size, clip.image.image_size, generator=torch.Generator().manual_seed(1))
    return SimpleNamespace(**{"x": x, "key": KEYS, "caption": CAPTIONS, **changed})


def embeddings(**changed: Any) -> Any:
    image = F.normalize(torch.randn(4, 128, generator=torch.Generator().manual_seed(2)), dim=-1)
    return SimpleNamespace(
        **{"image": image, "text": None, "tokens": None, "key": KEYS, "caption": CAPTIONS, **changed}
    )


def test_pictures_become_what_the_towers_say_of_them(clip: CLIP) -> None:
    assert clip.text is not None
    batch = pictures(clip)
    got = PairEncoder(clip.image, clip.text, dim=128)(batch)
    with torch.no_grad():
        torch.testing.assert_close(got.image, F.normalize(clip.image(batch.x), dim=-1))
    torch.testing.assert_close(got.text, clip.text.encode_text(CAPTIONS))
    assert got.tokens is not None
    torch.testing.assert_close(got.tokens, clip.text.token_states(CAPTIONS))
    assert got.key == KEYS and not got.image.requires_grad


def test_what_is_stored_is_taken_and_only_the_rest_computed(clip: CLIP) -> None:
    assert clip.text is not None
    stored = F.normalize(torch.randn(4, 128), dim=-1)
    got = PairEncoder(None, clip.text, dim=128)(embeddings(text=stored))
    assert torch.equal(got.text, stored) and got.tokens is not None
    states = torch.randn(4, 5, 128)
    whole = PairEncoder(dim=128)(embeddings(text=stored, tokens=states))
    assert whole.tokens is not None and torch.equal(whole.tokens, states)


def test_token_states_can_be_left_out(clip: CLIP) -> None:
    assert clip.text is not None
    assert PairEncoder(None, clip.text, dim=128, tokens=False)(embeddings()).tokens is None
    stored = F.normalize(torch.randn(4, 128), dim=-1)
    assert PairEncoder(dim=128, tokens=False)(embeddings(text=stored, tokens=torch.randn(4, 5, 128))).tokens is None


def test_equal_captions_are_read_once(clip: CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clip.text is not None
    read: list[str] = []
    original = clip.text.read

    def watching(texts: list[str]) -> tuple[Tensor, Tensor]:
        read.extend(texts)
        return original(texts)

    monkeypatch.setattr(clip.text, "read", watching)
    got = PairEncoder(None, clip.text, dim=128)(embeddings())
    assert read == [CAPTIONS[0], CAPTIONS[1], CAPTIONS[3]]
    assert torch.equal(got.text[0], got.text[2]) and not torch.equal(got.text[0], got.text[1])


def test_the_precision_around_it_is_used_and_the_result_is_whole(clip: CLIP) -> None:
    encoder = PairEncoder(clip.image, clip.text, dim=128)
    exact = encoder(pictures(clip))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(pictures(clip))
    for one, other in ((exact.image, half.image), (exact.text, half.text)):
        assert other.dtype == torch.float32 and not torch.equal(one, other)
        assert F.cosine_similarity(one, other, dim=-1).min() > 0.99


def test_towers_are_frozen_and_no_part_of_what_holds_them() -> None:
    clip = load_tiny()
    encoder = PairEncoder(clip.image, clip.text, dim=128)
    assert not isinstance(encoder, torch.nn.Module) and not any(p.requires_grad for p in clip.image.parameters())


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (embeddings(), "samples such as 'a' have no text embeddings or token states, and no text tower is given; name"),
        (embeddings(caption=None), "samples such as 'a' have no captions; name the CLIP, model.name="),
        (SimpleNamespace(x=torch.zeros(4, 3, 32, 32), key=KEYS, caption=CAPTIONS), "holds pictures and no image tower"),
    ],
)
def test_what_cannot_be_completed_is_told_in_a_line(batch: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PairEncoder(dim=128)(batch)
