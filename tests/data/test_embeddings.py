from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import normalize

from data.batches import EmbeddingBatch
from data.embeddings import EmbeddingShards, embedding_loader, write_embeddings
from data.plan import PositionBatches

META = {"encoder": "tiny-vit:abc", "captions": "digits"}


def _batch(count: int, start: int = 0, *, dim: int = 6, tokens: bool = False) -> EmbeddingBatch:
    generator = torch.Generator().manual_seed(start)
    image, text = (normalize(torch.randn(count, dim, generator=generator), dim=1) for _ in range(2))
    states = torch.randn(count, 3, 4, generator=generator) if tokens else None
    return EmbeddingBatch(image, text, states, tuple(f"né/{i}" for i in range(start, start + count)))


def _batches(tokens: bool = False) -> Iterator[EmbeddingBatch]:
    for start, count in ((0, 7), (7, 1), (8, 20), (28, 2)):
        yield _batch(count, start, tokens=tokens)


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("per_shard", [1, 4, 8, 100])
def test_what_is_written_is_read_back(tokens: bool, per_shard: int, tmp_path: Path) -> None:
    paths = write_embeddings(tmp_path / "e", _batches(tokens), META, per_shard=per_shard)
    assert len(paths) == -(-30 // per_shard)
    source = EmbeddingShards(tmp_path / "e", encoder="tiny-vit:abc", checksum=True)
    assert len(source) == 30
    assert source.dim == 6
    assert source.metadata == META
    wanted = [batch.select([i]) for batch in _batches(tokens) for i in range(len(batch))]
    for i in (0, 29, 7, 8, 3, 27):
        sample, one = source[i], wanted[i]
        assert sample.key == one.key[0] == f"né/{i}"
        assert torch.equal(sample.image, one.image[0])
        assert sample.text is not None and one.text is not None
        assert torch.equal(sample.text, one.text[0])
        assert (sample.tokens is None) == (one.tokens is None) == (not tokens)
        if sample.tokens is not None and one.tokens is not None:
            assert torch.equal(sample.tokens, one.tokens[0])


def test_half_precision_is_kept_on_disk_and_comes_as_float32(tmp_path: Path) -> None:
    half = _batch(5).to("cpu", dtype=torch.float16)
    (path,) = write_embeddings(tmp_path / "e", [half], META)
    assert load_file(path)["image"].dtype == torch.float16
    sample = EmbeddingShards(tmp_path / "e")[2]
    assert sample.image.dtype == torch.float32
    assert torch.equal(sample.image, half.image[2].float())


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_follows_the_order_and_leaves_the_global_state_alone(workers: int, tmp_path: Path) -> None:
    write_embeddings(tmp_path / "e", _batches(tokens=True), META, per_shard=8)
    source = EmbeddingShards(tmp_path / "e")
    order = PositionBatches(n=30, batch_size=10, seed=4, limit=3)
    before = torch.get_rng_state()
    loaded = list(embedding_loader(source, order, workers, seed=0))
    assert torch.equal(torch.get_rng_state(), before)
    assert [b.key for b in loaded] == [tuple(f"né/{i}" for i in indices) for indices in order]
    assert loaded[0].tokens is not None
    assert loaded[0].tokens.shape == (10, 3, 4)


def test_mapped_memory_stays_behind_when_a_source_travels(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "e", [_batch(2000, dim=64)], META)
    source = EmbeddingShards(tmp_path / "e")
    assert torch.equal(source[3].image, _batch(2000, dim=64).image[3])
    packed = pickle.dumps(source)
    assert len(packed) < 5000
    assert torch.equal(pickle.loads(packed)[3].image, source[3].image)


def _bad_row(field: str, value: float) -> EmbeddingBatch:
    batch = _batch(5)
    getattr(batch, field)[[1, 3]] = value
    return batch


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (_bad_row("image", float("nan")), "00000.safetensors: 2 rows of 'image' are not finite"),
        (_bad_row("text", float("inf")), "2 rows of 'text' are not finite"),
        (_bad_row("text", 0.0), "2 rows of 'text' are zero"),
        (_bad_row("text", 0.5), "2 rows of 'text' are not of unit length"),
    ],
)
def test_values_that_no_prior_should_see_are_not_written(batch: EmbeddingBatch, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_embeddings(tmp_path / "e", [_batch(4), batch], META, per_shard=100)
    assert list(tmp_path.iterdir()) == []


def test_image_and_text_must_share_one_space(tmp_path: Path) -> None:
    batch = EmbeddingBatch(_batch(2).image, _batch(2, dim=5).text, None, ("a", "b"))
    with pytest.raises(ValueError, match=r"image \(2, 6\) and text \(2, 5\)"):
        write_embeddings(tmp_path / "e", [batch], META)


def test_norms_may_be_off_by_a_thousandth(tmp_path: Path) -> None:
    near, far = _batch(3), _batch(3)
    near.image.mul_(1.0009)
    far.image.mul_(1.0011)
    write_embeddings(tmp_path / "near", [near], META)
    with pytest.raises(ValueError, match="3 rows of 'image' are not of unit length"):
        write_embeddings(tmp_path / "far", [far], META)


@pytest.mark.parametrize("per_shard", [2, 100])
def test_batches_that_change_their_size_are_refused(per_shard: int, tmp_path: Path) -> None:
    for other in (_batch(2, dim=5), _batch(2, tokens=True)):
        with pytest.raises(ValueError, match="sizes"):
            write_embeddings(tmp_path / "e", [_batch(2), other], META, per_shard=per_shard)


def test_the_encoder_must_be_named_and_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="metadata needs 'encoder'"):
        write_embeddings(tmp_path / "e", [_batch(2)], {})
    with pytest.raises(ValueError, match="no embeddings to write"):
        write_embeddings(tmp_path / "e", [], META)
    write_embeddings(tmp_path / "e", [_batch(2)], META)
    with pytest.raises(ValueError, match="made by encoder 'tiny-vit:abc', not 'other'"):
        EmbeddingShards(tmp_path / "e", encoder="other")


def _captioned(count: int, start: int = 0, *, text: bool = False) -> EmbeddingBatch:
    batch = _batch(count, start)
    captions = tuple("" if i % 4 == 3 else f" né {i}" for i in range(start, start + count))
    return EmbeddingBatch(batch.image, batch.text if text else None, None, batch.key, captions)


@pytest.mark.parametrize("text", [True, False])
def test_captions_are_kept_with_or_without_their_embeddings(text: bool, tmp_path: Path) -> None:
    write_embeddings(tmp_path / "e", [_captioned(7, text=text), _captioned(5, 7, text=text)], META, per_shard=5)
    source = EmbeddingShards(tmp_path / "e")
    assert source.has_captions and source.empty_captions == 3
    assert ("text" in source.shapes) == text
    found = source.__getitems__([11, 0, 5, 4, 9])
    assert [s.caption for s in found] == ["", "né 0", "né 5", "né 4", "né 9"]
    assert [s.key for s in found] == ["né/11", "né/0", "né/5", "né/4", "né/9"]
    assert torch.equal(found[2].image, _batch(7).image[5]) and torch.equal(found[4].image, _batch(5, 7).image[2])
    assert all((sample.text is not None) == text for sample in found)
    (batch,) = embedding_loader(source, PositionBatches(n=12, batch_size=12, seed=0, limit=1), 2, seed=0)
    assert batch.caption is not None and set(batch.caption) == {"", *(f"né {i}" for i in range(12) if i % 4 != 3)}


def test_an_image_embedding_without_any_text_is_refused(tmp_path: Path) -> None:
    batch = EmbeddingBatch(_batch(2).image, None, None, ("a", "b"))
    with pytest.raises(ValueError, match="neither text embeddings nor captions"):
        write_embeddings(tmp_path / "e", [batch], META)


def test_captions_on_some_batches_only_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="captions on only some"):
        write_embeddings(tmp_path / "e", [_captioned(2, text=True), _batch(2, 2)], META)


def test_shards_of_the_first_format_are_read(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "e", _batches(), META)
    index = json.loads((tmp_path / "e" / "index.json").read_text())
    old = {name: value for name, value in index.items() if name not in ("captions", "empty_captions")}
    (tmp_path / "e" / "index.json").write_text(json.dumps({**old, "format": "robustclip-embeddings/1"}))
    source = EmbeddingShards(tmp_path / "e")
    assert len(source) == 30 and not source.has_captions
    assert source[3].caption is None and source[3].text is not None


def test_numbers_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    batch = _batch(3)
    whole = EmbeddingBatch(batch.image.mul(1e3).long(), batch.text, None, batch.key)
    with pytest.raises(ValueError, match="'image' holds int64 numbers; embeddings are floats"):
        write_embeddings(tmp_path / "e", [whole], META)
