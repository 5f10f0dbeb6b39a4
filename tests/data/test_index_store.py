"""Index files: they fit their tars or are made again, and nothing is read twice."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import index_store
from data.index_file import index_tar, pack_index, unpack_index
from data.index_store import find_index, places_of
from data.shards import IndexedShards, write_shards

MakeTar = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBUSTCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _samples(count: int, renamed: int = -1) -> Iterator[dict[str, Any]]:
    for i in range(count):
        yield {
            "__key__": f"{'t' if i == renamed else 's'}{i:03d}",
            "cls": str(i),
            "txt": f"caption {i}",
            "bin": bytes([i % 256]) * i,
        }


def _tar(folder: Path, count: int = 30, renamed: int = -1) -> Path:
    (path,) = write_shards(folder, _samples(count, renamed))
    (folder / "index.json").unlink()
    return path


def test_an_index_comes_back_from_its_file(tmp_path: Path) -> None:
    index = index_tar(_tar(tmp_path / "a"))
    again = unpack_index(pack_index(index))
    assert again.equals(index) and again.tar == index.tar
    assert again.all_keys() == [again.key(i) for i in range(30)] == [f"s{i:03d}" for i in range(30)]


@given(at=st.integers(0, 10**6), value=st.integers(1, 255), cut=st.booleans())
@settings(max_examples=80)
def test_a_damaged_index_is_never_believed(at: int, value: int, cut: bool) -> None:
    content = CONTENT
    at %= len(content)
    broken = content[:at] if cut else content[:at] + bytes([content[at] ^ value]) + content[at + 1 :]
    with pytest.raises(ValueError, match="damaged|not an index"):
        unpack_index(broken)


def _content() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return pack_index(index_tar(_tar(Path(folder) / "a")))


CONTENT = _content()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("offset", lambda a: a + 10**9),
        ("offset", lambda a: a - 10**9),
        ("offset", lambda a: np.full_like(a, 2**63 - 1)),
        ("size", lambda a: a + 10**9),
        ("first", lambda a: a[::-1].copy()),
        ("first", lambda a: a + 1),
        ("extension", lambda a: a + 9),
        ("key_ends", lambda a: a + 1),
        ("key_ends", lambda a: a[::-1].copy()),
        ("key_hash", lambda a: a[1:]),
        ("size", lambda a: a[1:]),
    ],
)
def test_an_index_that_leads_out_of_its_tar_is_refused(name: str, change: Callable[..., np.ndarray]) -> None:
    from dataclasses import replace

    index = unpack_index(CONTENT)
    with pytest.raises(ValueError, match="not as an index should be"):
        unpack_index(pack_index(replace(index, **{name: change(getattr(index, name))})))


def test_a_file_that_is_no_tar_gets_no_index_beside_it(tmp_path: Path, cache: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(b"no tar at all" * 100)
    found = find_index(picture)
    assert "not a readable, uncompressed tar" in found.index.fault and found.file is None
    assert [path.name for path in tmp_path.iterdir() if path != cache] == ["picture.jpg"]
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_tar_is_read_once_and_never_again_while_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _tar(tmp_path / "a")
    first = find_index(path)
    assert first.how == "built" and first.file is not None and first.file == path.with_name("0.tar.index")
    monkeypatch.setattr(index_store, "index_tar", lambda path: pytest.fail("the tar was read again"))
    second = find_index(path)
    assert second.how == "read" and second.index.equals(first.index)
    moved = tmp_path / "b/0.tar"
    moved.parent.mkdir()
    for file in (path, first.file):
        shutil.copyfile(file, moved.with_name(file.name))  # another time, the same tar
    assert find_index(moved).how == "read"


@pytest.mark.parametrize("fault", ["longer", "shorter", "other", "damaged", "grown back"])
def test_an_index_that_does_not_fit_is_made_again_and_it_is_said_once(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _tar(tmp_path / "a")
    whole = path.read_bytes()
    if fault == "grown back":
        at = whole.index(b"s020.bin")
        path.write_bytes(whole[:at] + bytes(len(whole) - at))
    find_index(path)
    if fault == "longer":
        path.write_bytes(whole + bytes(10240))
    elif fault == "shorter":
        path.write_bytes(whole[: whole.index(b"s010.bin")] + bytes(1024))
    elif fault == "other":
        path.write_bytes(_tar(tmp_path / "b", renamed=0).read_bytes())
        os.utime(path, ns=(1, 1))
    elif fault == "grown back":
        path.write_bytes(whole)
    else:
        path.with_name("0.tar.index").write_bytes(b"\x1f\x8b nonsense")
    with caplog.at_level(logging.WARNING):
        index = IndexedShards([str(path)])
    assert index.keys == index_tar(path).all_keys()
    assert caplog.messages == [f"1 indexes did not fit their shards and were made again: {path}"]
    caplog.clear()
    assert IndexedShards([str(path)]).made == {"read": 1} and not caplog.messages


def test_headers_changed_behind_a_tars_back_are_found_by_a_checksum(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a")
    status = path.stat()
    find_index(path)
    path.write_bytes(_tar(tmp_path / "b", renamed=13).read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "s013" in find_index(path).index.all_keys()
    assert find_index(path, checksum=True).how == "rebuilt"
    assert "t013" in find_index(path).index.all_keys()
    assert find_index(path, checksum=True).how == "read"


def test_where_the_folder_cannot_be_written_the_cache_keeps_the_index(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _tar(tmp_path / "a")
    beside, cached = places_of(path)
    beside.mkdir()  # stands in the way, as a read-only folder does, also for root
    found = find_index(path)
    assert found.how == "built" and found.file == cached and cached.is_relative_to(cache)
    assert find_index(path).how == "read"
    cached.unlink()
    cached.mkdir()
    with caplog.at_level(logging.WARNING):
        assert len(IndexedShards([str(path)])) == 30
    assert caplog.messages == ["1 indexes could not be kept; set ROBUSTCLIP_CACHE to a folder that can be written"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["0.tar", "0.tar.index", "nshards.txt"]


def test_what_a_damaged_tar_lacks_is_remembered(tmp_path: Path, make_tar: MakeTar) -> None:
    path = _tar(tmp_path / "a")
    path.write_bytes(path.read_bytes()[:9000])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"0\.tar' is damaged or cut short"):
            IndexedShards([str(path)])
        index = IndexedShards([str(path)], skip_bad=True)
        assert index.rejected == {"damaged shard": 1} and 0 < len(index) < 30
    refused = str(make_tar(tmp_path / "r.tar", [("a.pkl", b""), ("b.txt", b""), ("b.txt", b"")]))
    for _ in range(2):
        assert IndexedShards([refused]).rejected == {"pickled": 1, "duplicate member": 1}


def test_of_several_that_want_an_index_one_builds_it(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a", 300)
    with ThreadPoolExecutor(4) as pool:
        found = sorted(pool.map(lambda _: find_index(path).how, range(4)))
    assert found == ["built", "read", "read", "read"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["0.tar", "0.tar.index", "nshards.txt"]
