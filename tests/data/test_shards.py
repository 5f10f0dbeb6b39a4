from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.catalog import locate
from data.shards import IndexedShards, expand, names_shards, stream, write_shards


def _samples(count: int, start: int = 0) -> Iterator[dict[str, Any]]:
    for i in range(start, start + count):
        yield {"__key__": f"s{i:03d}", "cls": str(i), "txt": f"caption {i}", "bin": bytes([i]) * i}


# --- which files


def test_braces_expand_in_order(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"{i}.tar").touch()
    assert expand(f"{tmp_path}/{{0..11}}.tar") == [f"{tmp_path}/{i}.tar" for i in range(12)]
    assert expand(f"{tmp_path}/3.tar") == [f"{tmp_path}/3.tar"]


def test_a_pattern_names_the_files_it_matches_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "a [1]"
    odd.mkdir()
    for name in ("b-1.tar", "b-0.tar", "c-0.tar", ".b-2.tar", "b-3.txt"):
        (odd / name).touch()
    (odd / "b-9.tar").mkdir()
    assert expand(f"{odd}/b-*.tar") == [f"{odd}/b-0.tar", f"{odd}/b-1.tar"]
    assert expand(f"{odd}/{{c,b}}-[0-9].tar") == [f"{odd}/c-0.tar", f"{odd}/b-0.tar", f"{odd}/b-1.tar"]
    monkeypatch.chdir(odd)
    assert expand("*-0.tar") == ["b-0.tar", "c-0.tar"]
    for pattern in ("x*.tar", f"{odd}/?.tar", "no/such/*.tar"):
        with pytest.raises(ValueError, match=rf"no file matches '{re.escape(pattern)}'"):
            expand(pattern)
    with pytest.raises(ValueError, match="no shards named"):
        locate("", "train")
    with pytest.raises(ValueError, match="only folders such as"):
        expand("b-9*")
    with pytest.raises(ValueError, match="only files here are found by"):
        expand("s3://bucket/b-*.tar")


@pytest.mark.parametrize(
    "name", ["a*.tar", "a[1].tar", "a{1..2}.tar", "a?.tar", "a b.tar", "{a,b}.tar", "a,b", "~a.tar"]
)
def test_a_file_with_signs_of_a_pattern_in_its_name_is_that_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).touch()
    (tmp_path / "a1.tar").touch()
    monkeypatch.chdir(tmp_path)
    assert names_shards(name) and expand(name) == [name] and expand(str(tmp_path / name)) == [str(tmp_path / name)]
    assert locate(name, "train").urls == [name]


def test_the_first_missing_file_is_named_and_all_are_counted(tmp_path: Path) -> None:
    (tmp_path / "0.tar").touch()
    with pytest.raises(ValueError, match=r"no file '.*/1\.tar' \(2 of 3 are missing\)"):
        expand(f"{tmp_path}/{{0..2}}.tar")


def test_addresses_expand_too_and_are_not_asked_for_yet() -> None:
    assert expand("s3://bucket/{0..1}.tar") == ["s3://bucket/0.tar", "s3://bucket/1.tar"]
    assert expand("https://example.org/{a,b}.tar?sig=1")[1] == "https://example.org/b.tar?sig=1"


def test_one_file_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.tar").touch()
    with pytest.raises(ValueError, match="twice"):
        expand(f"{tmp_path}/{{0,0}}.tar")
    with pytest.raises(ValueError, match="no shards named"):
        expand(" ")


def test_a_folder_is_read_by_its_number_of_shards(tmp_path: Path) -> None:
    folder = tmp_path / "test"
    paths = write_shards(folder, _samples(23), per_shard=2)
    assert expand(str(folder)) == [str(path) for path in paths]
    assert [path.name for path in paths] == [f"{i}.tar" for i in range(12)]


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (None, "no '.*nshards.txt'"),
        ("many", "says 'many'"),
        ("0", "says '0'"),
        ("4", r"no file '.*3\.tar' although"),
        ("1", r"'.*1\.tar' stands beside"),
    ],
)
def test_a_wrong_or_missing_number_of_shards_is_an_error(listing: str | None, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    write_shards(folder, _samples(6), per_shard=2)
    (folder / "nshards.txt").unlink()
    if listing is not None:
        (folder / "nshards.txt").write_text(listing)
    with pytest.raises(ValueError, match=message):
        expand(str(folder))


# --- writing


def test_what_is_written_is_read_back_in_any_order(tmp_path: Path) -> None:
    index = IndexedShards([str(p) for p in write_shards(tmp_path / "a", _samples(25), per_shard=10)])
    assert len(index) == 25
    assert index.keys == [f"s{i:03d}" for i in range(25)]
    for i in (24, 0, 10, 9, 17):
        wanted = {"cls": str(i).encode(), "txt": f"caption {i}".encode(), "bin": bytes([i]) * i}
        assert index.read(i) == wanted
        assert index.read(i, only=("cls",)) == {"cls": wanted["cls"]}
        assert sorted(index.extensions(i)) == ["bin", "cls", "txt"]
    assert not index.rejected


def test_streaming_gives_the_same_samples_in_order(tmp_path: Path) -> None:
    urls = [str(p) for p in write_shards(tmp_path / "a", _samples(25), per_shard=10)]
    index = IndexedShards(urls)
    streamed = list(stream(urls))
    assert [s.pop("__key__") for s in streamed] == index.keys
    assert streamed == [index.read(i) for i in range(25)]


def test_a_stream_can_be_written_again_to_equal_bytes(tmp_path: Path) -> None:
    first = write_shards(tmp_path / "a", _samples(7), per_shard=3)
    again = write_shards(tmp_path / "b", stream([str(p) for p in first]), per_shard=3)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in first]
    assert (tmp_path / "a/index.json").read_text() == (tmp_path / "b/index.json").read_text()


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield from _samples(15)
        raise RuntimeError("disk pulled out")

    with pytest.raises(RuntimeError, match="pulled"):
        write_shards(tmp_path / "a", failing(), per_shard=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"__key__": "a.b", "cls": b"1"}, "'a.b' cannot be a key"),
        ({"cls": b"1"}, "'None' cannot be a key"),
        ({"__key__": "s000", "cls": b"1"}, "key 's000' stands for two samples"),
        ({"__key__": "x", "cls": 3}, "field 'cls' of sample 'x' is int"),
        ({"__key__": "x", "_cls": b"3"}, "field '_cls'"),
    ],
)
def test_unfit_samples_are_refused(sample: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_shards(tmp_path / "a", [*_samples(1), sample])
    assert list(tmp_path.iterdir()) == []


def test_no_samples_and_a_full_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no samples"):
        write_shards(tmp_path / "a", [])
    write_shards(tmp_path / "b", _samples(1))
    with pytest.raises(ValueError, match="exists and is not empty"):
        write_shards(tmp_path / "b", _samples(1))
