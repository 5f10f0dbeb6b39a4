from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data.batches import (
    EmbeddingBatch,
    EmbeddingSample,
    ImageBatch,
    ImageSample,
    collate_embeddings,
    collate_images,
)


def _images(count: int = 5) -> ImageBatch:
    samples = [ImageSample(torch.full((3, 2, 2), i / 10), i - 1, f"k{i}") for i in range(count)]
    return collate_images(samples)


def _embeddings(tokens: bool) -> EmbeddingBatch:
    samples = [
        EmbeddingSample(
            torch.full((4,), float(i)),
            torch.full((4,), float(-i)),
            torch.full((2, 3), float(i)) if tokens else None,
            f"k{i}",
            f"text {i}" if tokens else None,
        )
        for i in range(5)
    ]
    return collate_embeddings(samples)


def test_a_batch_holds_its_samples_in_order() -> None:
    batch = _images()
    assert batch.x.shape == (5, 3, 2, 2)
    assert batch.y.tolist() == [-1, 0, 1, 2, 3]
    assert batch.y.dtype == torch.int64
    assert batch.key == ("k0", "k1", "k2", "k3", "k4")
    assert len(batch) == 5


@pytest.mark.parametrize(
    "index",
    [
        torch.tensor([3, 1]),
        [3, 1],
        slice(3, 0, -2),
    ],
    ids=["tensor", "list", "slice"],
)
def test_pixels_labels_and_keys_are_selected_together(
    index: torch.Tensor | list[int] | slice,
) -> None:
    if isinstance(index, slice):
        index = slice(1, 4, 2)
        wanted = [1, 3]
    else:
        wanted = [3, 1]
    part = _images().select(index)
    assert part.key == tuple(f"k{i}" for i in wanted)
    assert part.y.tolist() == [i - 1 for i in wanted]
    assert part.x[:, 0, 0, 0].tolist() == pytest.approx([i / 10 for i in wanted])


def test_a_mask_selects_where_it_is_true() -> None:
    part = _images().select(torch.tensor([True, False, False, True, False]))
    assert part.key == ("k0", "k3")
    empty = _images().select(torch.zeros(5, dtype=torch.bool))
    assert len(empty) == 0
    assert empty.x.shape == (0, 3, 2, 2)


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="does not select from 5 samples"):
        _images().select(torch.tensor([True, False]))


@pytest.mark.parametrize("tokens", [True, False])
def test_embeddings_are_selected_with_their_tokens(tokens: bool) -> None:
    part = _embeddings(tokens).select([4, 0])
    assert part.key == ("k4", "k0")
    assert part.image[:, 0].tolist() == [4, 0]
    assert part.text is not None and part.text[:, 0].tolist() == [-4, 0]
    assert part.caption == (("text 4", "text 0") if tokens else None)
    assert (part.tokens is not None) == tokens
    if part.tokens is not None:
        assert part.tokens[:, 0, 0].tolist() == [4, 0]


def test_moving_changes_the_pixels_dtype_and_never_the_labels() -> None:
    moved = _images().to("cpu", dtype=torch.float64, non_blocking=True)
    assert moved.x.dtype == torch.float64
    assert moved.y.dtype == torch.int64
    assert moved.key == _images().key
    pairs = _embeddings(tokens=True).to("meta")
    assert pairs.text is not None and pairs.tokens is not None
    assert {pairs.image.device.type, pairs.text.device.type} == {"meta"}
    assert pairs.caption == _embeddings(tokens=True).caption
    assert pairs.tokens.device.type == "meta"


def test_pictures_of_two_sizes_are_named() -> None:
    samples = [ImageSample(torch.zeros(3, 2, 2), 0, "a"), ImageSample(torch.zeros(3, 2, 3), 0, "b")]
    with pytest.raises(ValueError, match=r"picture 'b' is \(3, 2, 3\), 'a' is \(3, 2, 2\)"):
        collate_images(samples)


def test_tokens_on_some_samples_only_are_refused() -> None:
    vector = torch.zeros(4)
    samples = [
        EmbeddingSample(vector, vector, torch.zeros(2, 3), "a"),
        EmbeddingSample(vector, vector, None, "b"),
    ]
    with pytest.raises(ValueError, match="sample 'b' has no tokens"):
        collate_embeddings(samples)


@pytest.mark.parametrize("missing", ["text", "caption"])
def test_a_text_or_a_caption_on_some_samples_only_is_refused(missing: str) -> None:
    whole = EmbeddingSample(torch.zeros(4), torch.zeros(4), None, "a", "words")
    with pytest.raises(ValueError, match=f"sample 'b' has no {missing}"):
        collate_embeddings([whole, replace(whole, key="b", **{missing: None})])


def test_captions_alone_are_a_text() -> None:
    samples = [EmbeddingSample(torch.full((4,), float(i)), None, None, f"k{i}", f"text {i}") for i in range(3)]
    part = collate_embeddings(samples).to("cpu", dtype=torch.float16).select([2, 1])
    assert part.text is None and part.tokens is None
    assert part.caption == ("text 2", "text 1") and part.image[:, 0].tolist() == [2, 1]
    with pytest.raises(ValueError, match="one length"):
        EmbeddingBatch(part.image, None, None, part.key, ("one",))


def test_captions_of_pictures_travel_where_all_have_one() -> None:
    samples = [ImageSample(torch.zeros(3, 2, 2), 0, f"k{i}", f"text {i}") for i in range(3)]
    batch = collate_images(samples)
    assert batch.caption == ("text 0", "text 1", "text 2")
    assert batch.to("cpu").select(torch.tensor([False, True, True])).caption == ("text 1", "text 2")
    assert collate_images([*samples, replace(samples[0], key="k3", caption=None)]).caption is None


def test_empty_and_uneven_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        collate_images([])
    with pytest.raises(ValueError, match="one length"):
        ImageBatch(torch.zeros(2, 3, 1, 1), torch.zeros(3, dtype=torch.int64), ("a", "b"))
