from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.batches import EmbeddingBatch
from data.embedding_source import EmbeddingSource, SelectedEmbeddings
from data.embeddings import EmbeddingShards, embedding_loader, write_embeddings
from data.images import training_loader
from data.make import make_from_sample
from data.pairs import Pairs, hold_out, open_pairs
from data.parquet_npy import ParquetNpy
from data.plan import PositionBatches
from data.source import ImageSource

N = 40


def _unit() -> torch.Tensor:
    values = torch.randn(N, 5, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(values, dim=1)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One place of each kind."""
    root = tmp_path_factory.mktemp("pairs")
    keys = tuple(f"k{i}" for i in range(N))
    batch = EmbeddingBatch(_unit(), _unit().flip(0), None, keys, keys)
    write_embeddings(root / "shards", [batch], {"encoder": "e"}, per_shard=15)
    for name in ("img_emb", "metadata"):
        (root / "npy" / name).mkdir(parents=True)
    np.save(root / "npy" / "img_emb" / "img_emb_0.npy", _unit().numpy())
    pq.write_table(pa.table({"caption": keys, "key": keys}), root / "npy" / "metadata" / "metadata_0.parquet")
    make_from_sample("digits", root / "tars")
    return {name: str(root / name) for name in ("shards", "npy", "tars")} | {"digits": "digits"}


@pytest.mark.parametrize(
    ("kind", "wanted", "count"),
    [("shards", EmbeddingShards, N), ("npy", ParquetNpy, N), ("tars", ImageSource, 300), ("digits", ImageSource, 300)],
)
def test_each_kind_is_recognised(kind: str, wanted: type, count: int, places: dict[str, str]) -> None:
    source = open_pairs(places[kind], "tune", 16)
    assert isinstance(source, wanted) and len(source) == count
    assert source[0].caption


def test_both_kinds_of_embeddings_hold_the_same_pairs(places: dict[str, str]) -> None:
    shards, npy = open_pairs(places["shards"]), open_pairs(places["npy"])
    assert isinstance(shards, EmbeddingShards) and isinstance(npy, ParquetNpy)
    for i in (0, 17, N - 1):
        assert shards[i].key == npy[i].key and shards[i].caption == npy[i].caption
        assert torch.equal(shards[i].image, npy[i].image)


def test_a_place_without_pairs_is_refused_in_one_line(tmp_path: Path, places: dict[str, str]) -> None:
    for where, message in (
        (str(tmp_path), "no embeddings in .* and no pictures; name a folder of embedding shards"),
        (str(tmp_path / "nowhere"), "no embeddings in '.*nowhere'"),
        ("nothing", "no embeddings in 'nothing'"),
        (str(tmp_path / "{0..3}.tar"), "no file '.*0.tar' .4 of 4 are missing"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            open_pairs(where)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no parquet_npy folder; normalise"):
        open_pairs(places["shards"], normalise=True)
    (tmp_path / "index.json").write_text(json.dumps({"format": "robustclip-shards/1", "shards": []}))
    with pytest.raises(ValueError, match="no embeddings in"):
        open_pairs(str(tmp_path))


def _keys(source: Pairs) -> list[str]:
    return [source[i].key for i in range(len(source))]


@pytest.mark.parametrize("kind", ["shards", "npy", "tars", "digits"])
def test_what_is_held_out_is_not_trained_on(kind: str, places: dict[str, str]) -> None:
    source = open_pairs(places[kind], "tune", 8)
    train, validation = hold_out(source, 13, seed=5)
    assert len(validation) == 13 and len(train) == len(source) - 13
    kept, held = _keys(train), _keys(validation)
    assert not set(kept) & set(held)
    assert sorted(kept + held) == sorted(_keys(source))
    position = {key: i for i, key in enumerate(_keys(source))}
    assert [position[key] for key in kept] == sorted(position[key] for key in kept)
    assert _keys(hold_out(source, 13, seed=5)[1]) == held != _keys(hold_out(source, 13, seed=6)[1])
    if isinstance(source, EmbeddingSource):
        assert isinstance(train, EmbeddingSource) and isinstance(validation, EmbeddingSource)
        for part in (train, validation):
            assert (part.dim, part.shapes, part.metadata) == (source.dim, source.shapes, source.metadata)
            assert part.has_captions


@pytest.mark.parametrize("kind", ["shards", "npy", "digits"])
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_take_held_out_parts(kind: str, workers: int, places: dict[str, str]) -> None:
    for part in hold_out(open_pairs(places[kind], "tune"), 12, seed=1):
        order = PositionBatches(n=len(part), batch_size=4, seed=0, limit=2)
        loader = (
            embedding_loader(part, order, workers, seed=0)
            if isinstance(part, EmbeddingSource)
            else training_loader(part, order, workers, seed=0)
        )
        for batch, indices in zip(loader, order, strict=True):
            assert batch.key == tuple(part[i].key for i in indices)
            assert batch.caption == tuple(part[i].caption for i in indices)


@given(st.integers(2, 60), st.data())
def test_the_rest_is_the_complement_in_order(n: int, data: st.DataObject) -> None:
    class Numbers(EmbeddingSource):
        dim, shapes, has_captions, metadata = 1, {"image": [1]}, False, {}

        def __len__(self) -> int:
            return n

        def __getitems__(self, indices: list[int]) -> list[int]:  # pyright: ignore
            return indices

    chosen = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=n - 1)))
    rest = SelectedEmbeddings(Numbers(), np.array(chosen), rest=True)
    assert rest.__getitems__(range(len(rest))) == [i for i in range(n) if i not in chosen]


@pytest.mark.parametrize("count", [0, -1, N, N + 1])
def test_both_parts_hold_something(count: int, places: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=rf"cannot hold {count} of 40 samples out; choose 1\.\.39"):
        hold_out(open_pairs(places["shards"]), count, seed=0)
