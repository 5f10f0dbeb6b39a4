"""Faults planted in a folder of embedding shards are found when it is opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from data.batches import EmbeddingBatch
from data.embedding_tensors import load
from data.embeddings import EmbeddingShards, write_embeddings

META = {"encoder": "tiny-vit:abc", "captions": "digits"}


def _batch(count: int, start: int = 0, *, dim: int = 6, tokens: bool = False) -> EmbeddingBatch:
    generator = torch.Generator().manual_seed(start)
    image, text = (normalize(torch.randn(count, dim, generator=generator), dim=1) for _ in range(2))
    states = torch.randn(count, 3, 4, generator=generator) if tokens else None
    return EmbeddingBatch(image, text, states, tuple(f"né/{i}" for i in range(start, start + count)))


def _batches(tokens: bool = False) -> Iterator[EmbeddingBatch]:
    for start, count in ((0, 7), (7, 1), (8, 20), (28, 2)):
        yield _batch(count, start, tokens=tokens)


def _captioned(count: int, start: int = 0, *, text: bool = False) -> EmbeddingBatch:
    batch = _batch(count, start)
    captions = tuple("" if i % 4 == 3 else f" né {i}" for i in range(start, start + count))
    return EmbeddingBatch(batch.image, batch.text if text else None, None, batch.key, captions)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_embeddings(tmp_path / "e", _batches(), META, per_shard=10)
    return tmp_path / "e"


def _replace(path: Path, **tensors: torch.Tensor) -> None:
    """Plant other tensors in a file, and a record that vouches for it."""
    save_file({**load_file(path), **tensors}, path)
    index = json.loads((path.parent / "index.json").read_text())
    record = next(shard for shard in index["shards"] if shard["name"] == path.name)
    record["bytes"] = path.stat().st_size
    (path.parent / "index.json").write_text(json.dumps(index))


def test_a_missing_index_or_shard_is_named(written: Path) -> None:
    (written / "00001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no shard '.*00001\.safetensors'"):
        EmbeddingShards(written)
    (written / "index.json").unlink()
    with pytest.raises(ValueError, match="index.json is missing"):
        EmbeddingShards(written)


@pytest.mark.parametrize("field", ["dim", "shapes", "metadata"])
def test_an_index_without_a_field_is_refused(field: str, written: Path) -> None:
    index = json.loads((written / "index.json").read_text())
    del index[field]
    (written / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"lacks '{field}'"):
        EmbeddingShards(written)


def test_an_index_without_shards_is_refused(written: Path) -> None:
    index = json.loads((written / "index.json").read_text())
    (written / "index.json").write_text(json.dumps({**index, "shards": []}))
    with pytest.raises(ValueError, match="lists no shards"):
        EmbeddingShards(written)


def test_a_cut_shard_is_named(written: Path) -> None:
    path = written / "00001.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"00001\.safetensors' has \d+ bytes but index.json says"):
        EmbeddingShards(written)


def test_a_file_of_garbage_is_named(written: Path) -> None:
    path = written / "00001.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(ValueError, match=r"00001\.safetensors' is not a readable safetensors"):
        EmbeddingShards(written)


def test_a_flipped_bit_is_found_by_the_checksum(written: Path) -> None:
    path = written / "00002.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    EmbeddingShards(written, values=False)
    with pytest.raises(ValueError, match=r"00002\.safetensors' does not match its sha256"):
        EmbeddingShards(written, values=False, checksum=True)


def test_other_sizes_counts_and_norms_are_found(written: Path) -> None:
    path = written / "00001.safetensors"
    whole = load_file(path)
    _replace(path, image=whole["image"][:, :5].contiguous())
    with pytest.raises(ValueError, match="holds .*'image': .5.* but index.json says"):
        EmbeddingShards(written)
    _replace(path, image=whole["image"][:9].contiguous())
    with pytest.raises(ValueError, match="'image': 9, .* rows but index.json says 10"):
        EmbeddingShards(written)
    _replace(path, image=whole["image"] * 3)
    with pytest.raises(ValueError, match=r"00001\.safetensors: 10 rows of 'image' are not of unit"):
        EmbeddingShards(written)
    assert len(EmbeddingShards(written, values=False)) == 30


def test_an_index_that_points_outside_its_folder_is_refused(written: Path) -> None:
    text = (written / "index.json").read_text()
    (written / "index.json").write_text(text.replace("00001.", "../00001."))
    (written.parent / "00001.safetensors").write_bytes((written / "00001.safetensors").read_bytes())
    with pytest.raises(ValueError, match="no shard"):
        EmbeddingShards(written)


def test_a_sample_outside_the_source_is_refused(written: Path) -> None:
    source = EmbeddingShards(written)
    for index in (-1, 30):
        with pytest.raises(IndexError, match=f"sample {index} of 30"):
            source[index]


def test_the_faults_of_all_shards_are_told_together(written: Path) -> None:
    (written / "00000.safetensors").unlink()
    whole = load_file(written / "00001.safetensors")
    _replace(written / "00001.safetensors", image=whole["image"] * torch.nan, text=whole["text"] * 0)
    path = written / "00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="has 4 faults: no shard .*not finite; .*are zero; .*bytes but index.json"):
        EmbeddingShards(written)


def test_a_damaged_table_of_captions_is_found(tmp_path: Path) -> None:
    (path,) = write_embeddings(tmp_path / "e", [_captioned(5)], META)
    ends = load(path)["caption_ends"].clone()
    for damage in (ends.flip(0), ends + 1):
        _replace(path, caption_ends=damage)
        with pytest.raises(ValueError, match=r"ends of the captions do not fit their \d+ bytes"):
            EmbeddingShards(tmp_path / "e")
    index = json.loads((path.parent / "index.json").read_text())
    _replace(path, caption_ends=ends)
    (path.parent / "index.json").write_text(json.dumps({**index, "captions": False}))
    with pytest.raises(ValueError, match="has captions but index.json says otherwise"):
        EmbeddingShards(tmp_path / "e")
