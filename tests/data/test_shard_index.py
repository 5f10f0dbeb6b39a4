from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data.shards import IndexedShards, stream, write_shards

MakeTar = Callable[..., Path]


def _samples(count: int, start: int = 0) -> Iterator[dict[str, Any]]:
    for i in range(start, start + count):
        yield {"__key__": f"s{i:03d}", "cls": str(i), "txt": f"caption {i}", "bin": bytes([i]) * i}


# --- damaged shards


def test_a_shard_without_samples_is_named(tmp_path: Path, make_tar: MakeTar) -> None:
    empty = make_tar(tmp_path / "empty.tar", [])
    with pytest.raises(ValueError, match=r"empty\.tar' holds no samples"):
        IndexedShards([str(empty)])
    refused = make_tar(tmp_path / "refused.tar", [("a.pkl", b""), ("b.pkl", b"")])
    with pytest.raises(ValueError, match=r"holds no samples \(2 refused\)"):
        IndexedShards([str(refused)])


def test_training_keeps_every_whole_sample_of_a_cut_shard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, cut = write_shards(tmp_path / "a", _samples(20), per_shard=10)
    data = cut.read_bytes()
    cut.write_bytes(data[: data.index(b"s016.cls") + 100])
    (tmp_path / "a/index.json").unlink()
    urls = [str(good), str(cut)]
    with pytest.raises(ValueError, match=r"1\.tar' is damaged or cut short"):
        IndexedShards(urls)
    index = IndexedShards(urls, skip_bad=True)
    assert index.keys == [f"s{i:03d}" for i in range(16)]
    assert index.rejected == {"damaged shard": 1}
    assert "1.tar' is damaged or cut short" in caplog.messages[0]
    assert caplog.messages[1] == "2 shards: refused {'damaged shard': 1}"
    counts: Counter[str] = Counter()
    assert [s["__key__"] for s in stream(urls, counts)] == index.keys
    assert counts == {"damaged shard": 1}
    with pytest.raises(ValueError, match=r"1\.tar' is damaged"):
        list(stream(urls))


def test_the_manifest_finds_a_cut_that_looks_whole(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path / "a", _samples(10))
    data = path.read_bytes()
    at = data.index(b"s006.bin")
    path.write_bytes(data[:at] + bytes(1024))  # a perfect, shorter tar
    with pytest.raises(ValueError, match=r"0\.tar' has \d+ bytes but index.json says \d+"):
        IndexedShards([str(path)])
    (tmp_path / "a/index.json").unlink()
    assert len(IndexedShards([str(path)])) == 6


def test_the_manifest_finds_lost_samples_and_changed_bytes(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path / "a", _samples(10))
    data = path.read_bytes()
    at = data.index(b"s006.bin")
    path.write_bytes(data[:at] + bytes(len(data) - at))
    with pytest.raises(ValueError, match="holds 6 samples but its index.json says 10"):
        IndexedShards([str(path)])
    assert IndexedShards([str(path)], skip_bad=True).rejected == {"not as its index.json says": 1}
    path.write_bytes(data.replace(b"caption 3", b"caption 4"))
    assert len(IndexedShards([str(path)])) == 10
    with pytest.raises(ValueError, match="does not match its sha256"):
        IndexedShards([str(path)], checksum=True)


def test_a_shard_that_shrinks_under_the_index_is_noticed(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path / "a", _samples(10))
    index = IndexedShards([str(path)])
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="has become shorter"):
        index.read(9)


# --- keys


def test_members_of_a_key_may_lie_apart(tmp_path: Path, make_tar: MakeTar) -> None:
    names = [("a.txt", b"A"), ("b.txt", b"B"), ("a.cls", b"0"), ("b.cls", b"1")]
    index = IndexedShards([str(make_tar(tmp_path / "0.tar", names))])
    assert [index.read(i) for i in range(2)] == [
        {"txt": b"A", "cls": b"0"},
        {"txt": b"B", "cls": b"1"},
    ]


def test_a_member_that_comes_twice_is_counted_and_the_first_is_kept(tmp_path: Path, make_tar: MakeTar) -> None:
    path = str(make_tar(tmp_path / "0.tar", [("a.cls", b"0"), ("a.cls", b"9"), ("b.cls", b"1")]))
    index = IndexedShards([path])
    assert index.read(0) == {"cls": b"0"}
    assert index.rejected == {"duplicate member": 1}
    counts: Counter[str] = Counter()
    assert [s["cls"] for s in stream([path], counts)] == [b"0", b"1"]
    assert counts == {"duplicate member": 1}


def test_keys_shared_by_two_shards_get_their_shards_name(tmp_path: Path, make_tar: MakeTar) -> None:
    urls = [str(make_tar(tmp_path / f"{i}.tar", [("a.cls", b"0"), ("b.cls", b"0")])) for i in (0, 1)]
    assert IndexedShards(urls).keys == ["0/a", "0/b", "1/a", "1/b"]
    other = str(make_tar(tmp_path / "x/0.tar", [("a.cls", b"0")]))
    with pytest.raises(ValueError, match="key '0/a' stands for two samples"):
        IndexedShards([urls[0], other])


def test_a_foreign_index_json_is_left_alone(tmp_path: Path, make_tar: MakeTar) -> None:
    path = str(make_tar(tmp_path / "0.tar", [("a.cls", b"0")]))
    (tmp_path / "index.json").write_text('{"0.tar": 17}')
    assert len(IndexedShards([path])) == 1
    (tmp_path / "index.json").write_text('{"format": "robustclip-shards/1", "shards": [{"name": 3}]}')
    with pytest.raises(ValueError, match="lacks the record of a shard"):
        IndexedShards([path])
