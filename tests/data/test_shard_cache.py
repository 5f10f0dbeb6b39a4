"""Shards from elsewhere: whole or not at all, once per machine, never more than there is room for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from data import download
from data.cache_folder import locked
from data.download import fetch_small, remote_file
from data.shard_cache import GIB, ShardCache
from tests.data.web import Web, web

SIZE = 3_000_000


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    folder = tmp_path / "site"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.tar").write_bytes(bytes([i]) * SIZE)
    with web(folder) as server:
        yield server


def _content(cache: ShardCache, url: str, **record: object) -> bytes:
    handle = cache.open(url, dict(record))
    with os.fdopen(handle, "rb") as file:
        return file.read()


def _kept(cache: ShardCache) -> list[str]:
    """Names of the whole shards; fails where a part of one is left."""
    names = [path.name for path in cache.folder.iterdir() if path.suffix != ".lock"]
    assert not [name for name in names if name.endswith(".part")]
    return sorted(name.partition("-")[2] for name in names)


def test_a_shard_is_fetched_once(site: Web, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache")
    assert _content(cache, f"{site.url}/2.tar") == _content(cache, f"{site.url}/2.tar") == b"\2" * SIZE
    assert site.asked == {"/2.tar": 1} and _kept(cache) == ["2.tar"]


def test_many_who_want_one_shard_fetch_it_once(site: Web, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: _content(ShardCache(tmp_path / "c"), f"{site.url}/1.tar"), range(16)))
    assert set(found) == {b"\1" * SIZE} and site.asked == {"/1.tar": 1}


def test_the_shards_used_longest_ago_make_room(site: Web, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", limit=3 * SIZE)
    for i in (0, 1, 2, 0, 3):
        _content(cache, f"{site.url}/{i}.tar")
    assert _kept(cache) == ["0.tar", "2.tar", "3.tar"]
    held = cache.open(f"{site.url}/0.tar")
    for i in (4, 5, 4, 1):
        _content(cache, f"{site.url}/{i}.tar")
    assert "0.tar" not in _kept(cache)
    assert os.pread(held, 5, SIZE - 5) == b"\0" * 5  # who has it open reads on
    os.close(held)


def test_a_crowd_in_a_small_cache_gets_everything_and_never_more_room(site: Web, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", limit=2 * SIZE)
    seen = []

    def look(job: int) -> bool:
        found = _content(ShardCache(tmp_path / "cache", limit=2 * SIZE), f"{site.url}/{job % 6}.tar")
        with locked(cache.folder / "cache.lock"):  # downloads in progress count too
            seen.append(sum(path.stat().st_size for path in [*cache.folder.glob("*.tar"), *_parts(cache)]))
        return found == bytes([job % 6]) * SIZE

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(look, range(48)))
    assert max(seen) <= 2 * SIZE
    assert len(_kept(cache)) <= 2


def _parts(cache: ShardCache) -> list[Path]:
    """Downloads in progress; one that ends at this moment holds nothing any more."""
    return [path for path in cache.folder.glob("*.part") if path.exists()]


@pytest.mark.parametrize("faults", [[503], ["cut", 500, 429], ["flip"]])
def test_a_network_that_fails_for_a_while_is_asked_again(faults: list[int | str], site: Web, tmp_path: Path) -> None:
    site.broken["/1.tar"] = list(faults)
    cache = ShardCache(tmp_path / "cache")
    assert _content(cache, f"{site.url}/1.tar", sha256=sha256(b"\1" * SIZE).hexdigest()) == b"\1" * SIZE
    assert site.asked["/1.tar"] == len(faults) + 1 and _kept(cache) == ["1.tar"]


@pytest.mark.parametrize(
    ("faults", "record", "said", "asked"),
    [
        ([404], {}, r"no file 'http://.*/1\.tar' that can be read \(HTTP 404 Not Found\)", 1),
        ([403], {}, "HTTP 403", 1),
        ([503] * 9, {}, r"cannot fetch 'http://.*/1\.tar' after 5 tries: HTTP 503 .*; check the address", 5),
        (["cut"] * 9, {}, f"after 5 tries: {SIZE // 2} of {SIZE} bytes came", 5),
        (["flip"] * 9, {"sha256": "0"}, "after 5 tries: its sha256 is not the one in index.json", 5),
        ([], {"bytes": 7}, f"has {SIZE} bytes, and had 7 when it was indexed; index it again", 1),
        (["endless"], {"bytes": 7}, f"has {SIZE} bytes, and had 7", 1),
        (["file:///etc/passwd"], {}, "HTTP 302", 1),
        (["http://169.254.169.254/1.tar"], {}, "host '169.254.169.254' is refused", 1),
    ],
)
def test_what_stays_wrong_is_one_line_and_leaves_nothing(
    faults: list[int | str], record: dict[str, object], said: str, asked: int, site: Web, tmp_path: Path
) -> None:
    site.broken["/1.tar"] = list(faults)
    cache = ShardCache(tmp_path / "cache")
    with pytest.raises(ValueError, match=said) as caught:
        _content(cache, f"{site.url}/1.tar?token=secret", **record)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    assert site.asked["/1.tar"] == asked and _kept(cache) == []


def test_a_redirect_to_another_place_is_followed(site: Web, tmp_path: Path) -> None:
    site.broken["/1.tar"] = [f"{site.url}/2.tar"]
    assert _content(ShardCache(tmp_path / "cache"), f"{site.url}/1.tar") == b"\2" * SIZE


def test_a_name_that_leads_to_a_metadata_address_is_refused(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from data import addresses

    # 127.0.0.1 stands in for the address that a name resolves to: only the peer that answers tells
    monkeypatch.setattr(addresses, "_METADATA", {addresses.ipaddress.ip_address("127.0.0.1")})
    url = site.url.replace("127.0.0.1", "localhost")
    with pytest.raises(ValueError, match="host '127.0.0.1' is refused"), remote_file(f"{url}/1.tar"):
        pass
    assert not site.asked


def test_a_host_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    with pytest.raises(ValueError, match="after 5 tries: .*refused; check the address and the network"):
        ShardCache(tmp_path).fetch("http://127.0.0.1:9/1.tar")


@pytest.mark.parametrize("faults", [[], ["endless"]])
def test_a_shard_that_is_too_large_for_the_cache_is_refused(faults: list[int | str], site: Web, tmp_path: Path) -> None:
    site.broken["/1.tar"] = list(faults)
    cache = ShardCache(tmp_path / "cache", limit=SIZE - 1)
    with pytest.raises(ValueError, match=r"1\.tar' takes .* GiB and the cache may hold 0\.00279; raise data\.cache"):
        cache.fetch(f"{site.url}/1.tar")
    assert _kept(cache) == []


def test_a_shard_of_untold_size_takes_its_room_as_it_comes(site: Web, tmp_path: Path) -> None:
    site.broken["/1.tar"] = ["endless"]
    cache = ShardCache(tmp_path / "cache", limit=GIB)
    assert _content(cache, f"{site.url}/1.tar") == b"\1" * SIZE and _kept(cache) == ["1.tar"]


def test_what_a_dead_process_left_is_cleared_away(site: Web, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", limit=2 * SIZE)
    left, busy = (cache.path_of(f"{site.url}/{i}.tar").name + ".part" for i in (4, 5))
    cache.folder.mkdir(parents=True)
    for name in (left, busy):
        (cache.folder / name).write_bytes(bytes(SIZE))
    with locked(cache.folder / (busy.removesuffix("part") + "lock")):  # somebody is at work on this one
        _content(cache, f"{site.url}/1.tar")
        assert (cache.folder / busy).exists() and not (cache.folder / left).exists()
    _content(cache, f"{site.url}/2.tar")
    assert _kept(cache) == ["1.tar", "2.tar"]


def test_files_are_read_through_the_same_cache(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"content")
    cache = ShardCache(tmp_path / "cache")
    assert _content(cache, f"file://{tmp_path}/0.tar") == b"content"
    with pytest.raises(ValueError, match=r"no file 'file://.*/9\.tar' that can be read"):
        cache.fetch(f"file://{tmp_path}/9.tar")


def test_a_scheme_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    try:
        import s3fs  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(ValueError, match=r"'s3://b/0\.tar' needs another package; install robustclip\[remote\]"):
            ShardCache(tmp_path).fetch("s3://b/0.tar")


def test_small_files_come_whole_or_are_not_there(site: Web) -> None:
    (site.folder / "index.json").write_text("{}")
    assert fetch_small(f"{site.url}/index.json") == b"{}"
    assert fetch_small(f"{site.url}/none.json") is None
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        fetch_small(f"{site.url}/1.tar", limit=1000)
