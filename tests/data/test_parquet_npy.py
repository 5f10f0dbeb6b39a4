from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data.embeddings import embedding_loader
from data.parquet_npy import ParquetNpy
from data.parquet_npy_layout import is_parquet_npy
from data.plan import PositionBatches

SIZES = (7, 4, 9)
DIM = 6


def _unit(rows: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, DIM))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _table(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path, row_group_size=3)


def write(folder: Path, *, text: bool = True, dtype: str = "float16", scale: float = 1.0) -> Path:
    """Three parts with captions 'caption p/r' and keys 'k p r'."""
    for name in ("img_emb", "metadata", *(["text_emb"] if text else [])):
        (folder / name).mkdir(parents=True)
    for part, rows in enumerate(SIZES):
        np.save(folder / "img_emb" / f"img_emb_{part:04d}.npy", (_unit(rows, part) * scale).astype(dtype))
        if text:
            np.save(folder / "text_emb" / f"text_emb_{part:04d}.npy", (_unit(rows, 50 + part) * scale).astype(dtype))
        captions = [f" caption né {part}/{row}\n" for row in range(rows)]
        keys = [f"k{part}{row}" for row in range(rows)]
        _table(
            folder / "metadata" / f"metadata_{part:04d}.parquet", caption=captions, image_path=keys, width=[1] * rows
        )
    return folder


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
def test_every_row_comes_with_its_caption_and_key(dtype: str, text: bool, in_memory: bool, tmp_path: Path) -> None:
    source = ParquetNpy(write(tmp_path / "e", text=text, dtype=dtype), in_memory=in_memory)
    assert (len(source), source.dim, source.has_captions, source.empty_captions) == (20, DIM, True, 0)
    assert source.metadata["encoder"] is None
    assert ("text" in source.shapes) == text
    wanted = [(part, row) for part, rows in enumerate(SIZES) for row in range(rows)]
    order = [19, 0, 7, 6, 11, 0, 10]
    for index, sample in zip(order, source.__getitems__(order), strict=True):
        part, row = wanted[index]
        assert (sample.key, sample.caption, sample.tokens) == (f"k{part}{row}", f"caption né {part}/{row}", None)
        expected = torch.from_numpy(_unit(SIZES[part], part).astype(dtype).astype(np.float32))[row]
        assert sample.image.dtype == torch.float32 and torch.equal(sample.image, expected)
        assert (sample.text is not None) == text
        alone = source[index]
        assert torch.equal(alone.image, sample.image) and alone.caption == sample.caption
    with pytest.raises(IndexError, match="sample 20 of 20"):
        source[20]


@pytest.mark.parametrize(
    ("old", "new"),
    [("img_emb", "image_emb"), ("text_emb", "txt_emb"), ("metadata", "meta"), ("metadata", "set-metadata")],
)
def test_folders_may_go_by_the_other_names(old: str, new: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "e")
    (folder / old).rename(folder / new)
    assert is_parquet_npy(folder)
    assert len(ParquetNpy(folder)) == 20


def test_rows_of_other_lengths_are_counted_or_scaled(tmp_path: Path) -> None:
    folder = write(tmp_path / "e", scale=3.0, dtype="float32")
    with pytest.raises(
        ValueError, match=r"6 faults: 7 rows of 'img_emb/img_emb_0000.npy' are not of unit length.*normalise"
    ):
        ParquetNpy(folder)
    sample = ParquetNpy(folder, normalise=True)[8]
    assert sample.text is not None
    assert torch.allclose(sample.image, torch.from_numpy(_unit(4, 1)[1]).float(), atol=1e-6)
    assert float(sample.text.norm()) == pytest.approx(1)
    assert float(ParquetNpy(folder, values=False)[8].image.norm()) == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_reads_it_in_the_samplers_order(workers: int, tmp_path: Path) -> None:
    source = ParquetNpy(write(tmp_path / "e"))
    order = PositionBatches(n=20, batch_size=5, seed=3, limit=4)
    loaded = list(embedding_loader(source, order, workers, seed=0))
    for batch, indices in zip(loaded, order, strict=True):
        assert batch.key == tuple(source[i].key for i in indices)
        assert batch.caption == tuple(source[i].caption or "" for i in indices)
        assert torch.equal(batch.image, torch.stack([source[i].image for i in indices]))


def test_a_source_travels_without_its_tables(tmp_path: Path) -> None:
    source = ParquetNpy(write(tmp_path / "e"))
    assert source[3].key == "k03"
    copy = pickle.loads(pickle.dumps(source))
    assert not copy._maps
    assert torch.equal(copy[12].image, source[12].image) and copy[12].caption == source[12].caption


def test_without_a_column_of_names_rows_are_numbered(tmp_path: Path) -> None:
    folder = write(tmp_path / "e")
    for part, rows in enumerate(SIZES):
        _table(folder / "metadata" / f"metadata_{part:04d}.parquet", TEXT=["a"] * rows)
    source = ParquetNpy(folder)
    assert [source[i].key for i in (0, 6, 7)] == ["0000/0", "0000/6", "0001/0"]


def test_missing_and_blank_captions_are_empty_texts_and_counted(tmp_path: Path) -> None:
    folder = write(tmp_path / "e")
    _table(folder / "metadata" / "metadata_0001.parquet", caption=[None, "", " \n", "x"], key=[1, 2, 3, 4])
    source = ParquetNpy(folder)
    assert source.empty_captions == 3
    assert [source[i].caption for i in range(7, 11)] == ["", "", "", "x"]
    assert source[7].key == "1"
    for part, rows in enumerate(SIZES):
        _table(folder / "metadata" / f"metadata_{part:04d}.parquet", caption=pa.array([None] * rows, pa.string()))
    with pytest.raises(ValueError, match="all 20 captions are empty"):
        ParquetNpy(folder)


# --- planted faults


def _npy(field: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        path = folder / field / f"{field}_0001.npy"
        np.save(path, change(np.load(path)), allow_pickle=True)

    return plant


def _rows(value: float, *rows: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(table: np.ndarray) -> np.ndarray:
        table[list(rows)] = value
        return table

    return change


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return plant


IMAGE, METADATA = "img_emb/img_emb_0001.npy", "metadata/metadata_0001.parquet"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nan": (_npy("img_emb", _rows(np.nan, 1, 2)), f"2 rows of '{IMAGE}' are not finite"),
    "inf": (_npy("text_emb", _rows(np.inf, 0)), "1 row of 'text_emb/text_emb_0001.npy' is not finite"),
    "zero": (_npy("img_emb", _rows(0, 3)), f"1 row of '{IMAGE}' is zero"),
    "rows": (
        _npy("img_emb", lambda t: t[:3]),
        f"{IMAGE} has 3 rows but .*text_emb_0001.npy has 4; .* {METADATA} has 4",
    ),
    "text rows": (_npy("text_emb", lambda t: t[:3]), f"{IMAGE} has 4 rows but text_emb/text_emb_0001.npy has 3"),
    "text dim": (_npy("text_emb", lambda t: t[:, :5]), f"{IMAGE} has dimension 6 but text_emb/text_emb_0001.npy has 5"),
    "rank": (_npy("img_emb", lambda t: t[0]), r"img_emb_0001.npy' is \[6\]; a table of embeddings is \[N, D\]"),
    "integers": (_npy("img_emb", lambda t: t.astype(np.int32)), "img_emb_0001.npy' holds int32 numbers"),
    "pickle": (_npy("img_emb", lambda t: t.astype(object)), "img_emb_0001.npy' holds pickled Python objects"),
    "cut": (_bytes(IMAGE, lambda b: b[:-8]), r"img_emb_0001.npy' has 168 bytes but its header promises 176"),
    "no npy": (_bytes(IMAGE, lambda b: b"\x80\x04" + b), "img_emb_0001.npy' is not a readable .npy file"),
    "empty": (_bytes(IMAGE, lambda b: b""), "img_emb_0001.npy' is not a readable .npy file"),
    "parquet": (_bytes(METADATA, lambda b: b[:-9]), "metadata_0001.parquet' is not a readable parquet file"),
    "caption": (
        lambda f: _table(f / METADATA, url=["u"] * 4, width=[1] * 4),
        f"{METADATA} has no column caption, TEXT or text; it has: url, width",
    ),
    "lists": (lambda f: _table(f / METADATA, caption=[[1]] * 4), "column 'caption' of .* cannot be read as text"),
    "latin": (lambda f: _table(f / METADATA, caption=[b"\xe9"] * 4), "column 'caption' of .* cannot be read as text"),
    "lone": (lambda f: (f / METADATA).unlink(), f"{IMAGE} has no metadata file beside it"),
    "lone text": (lambda f: (f / IMAGE).unlink(), "text_emb/text_emb_0001.npy has no image file beside it"),
    "twice": (
        lambda f: (f / IMAGE).with_name("x_1.npy").write_bytes(b""),
        "img_emb/img_emb_0001.npy and img_emb/x_1.npy end in the same number",
    ),
    "unnumbered": (lambda f: (f / IMAGE).with_name("x.npy").write_bytes(b""), "img_emb/x.npy does not end in a number"),
    "two folders": (lambda f: (f / "image_emb").mkdir(), "both img_emb and image_emb may hold the image files"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, tmp_path: Path) -> None:
    plant, message = FAULTS[fault]
    folder = write(tmp_path / "e")
    plant(folder)
    with pytest.raises(ValueError, match=message) as caught:
        ParquetNpy(folder)
    assert "\n" not in str(caught.value)


def test_a_dimension_that_changes_between_files_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "e", text=False)
    _npy("img_emb", lambda t: t[:, :5])(folder)
    with pytest.raises(ValueError, match=f"{IMAGE} has dimension 5, img_emb/img_emb_0000.npy has 6"):
        ParquetNpy(folder)


def test_faults_of_all_kinds_are_told_together(tmp_path: Path) -> None:
    folder = write(tmp_path / "e")
    for fault in ("rows", "lone", "twice"):
        FAULTS[fault][0](folder)
    _rows_of_first = np.load(folder / "img_emb" / "img_emb_0000.npy")
    np.save(folder / "img_emb" / "img_emb_0000.npy", _rows_of_first * np.nan)
    with pytest.raises(
        ValueError, match=r"'.*/e' has 3 faults: .*same number; .*no metadata file.*; 7 rows of .*not finite"
    ):
        ParquetNpy(folder)


def test_an_unpickling_file_never_runs(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "exploded",)

    folder = write(tmp_path / "e")
    np.save(folder / IMAGE, np.array([Bomb()] * 4, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickled"):
        ParquetNpy(folder)
    assert not (tmp_path / "exploded").exists()


def test_missing_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "e")
    monkeypatch.setattr("data.parquet.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"needs pyarrow; install it with: pip install -e '.\[parquet\]'"):
        ParquetNpy(folder)
