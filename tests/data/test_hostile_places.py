"""What a stranger's list, answer or index says about where to read: it reaches nothing that only we can see."""

from __future__ import annotations

import http.server
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import download
from data.addresses import check_next, is_inner
from data.download import fetch_small
from data.index_file import MAGIC, ShardIndex, index_tar, pack_index, unpack_index
from data.shard_cache import ShardCache
from data.shard_index import IndexedShards
from data.shard_lists import shards_of_list
from data.tars import MAX_MEMBER_BYTES
from tests.data.web import web

INNER = [
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "printer.local",
    "db.corp.internal",
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "2130706433",
    "0",
    "10.0.0.7",
    "172.16.3.1",
    "192.168.0.1",
    "100.64.0.1",
    "[::1]",
    "[::]",
    "[fd12:3456::1]",
    "[::ffff:10.0.0.7]",
]


@pytest.mark.parametrize("host", INNER)
def test_no_answer_from_outside_leads_to_what_only_we_can_see(host: str) -> None:
    assert is_inner(host)
    with pytest.raises(ValueError, match="is of an inner network, and 'https://example.org/list.txt' sends there"):
        check_next(f"http://{host}:8080/0.tar", "https://me:swordfish@example.org/list.txt?token=swordfish")


@pytest.mark.parametrize(
    ("url", "told_by"),
    [
        ("https://example.com/0.tar", "https://example.org/list.txt"),
        ("http://8.8.8.8/0.tar", "https://example.org/list.txt"),
        ("s3://localhost/0.tar", "https://example.org/list.txt"),
        ("http://10.0.0.7/0.tar", "http://10.0.0.7:8080/list.txt"),
        ("http://LocalHost:1/0.tar", "http://localhost:2/list.txt"),
    ],
)
def test_other_hosts_and_ones_own_are_followed(url: str, told_by: str) -> None:
    check_next(url, told_by)


@pytest.fixture
def inner() -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """A server that tells no stranger anything: its address by number, what it was asked, where it sends."""
    asked: list[str] = []
    sends: dict[str, str] = {}

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302 if self.path in sends else 200)
            if self.path in sends:
                self.send_header("Location", sends[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked, sends
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("target", ["http://localhost:{port}/secret", "http://10.0.0.7/x", "http://169.254.169.254/x"])
def test_a_redirect_to_an_inner_host_is_not_followed(
    target: str, inner: tuple[str, list[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    url, asked, sends = inner
    sends["/0.tar"] = target.format(port=url.rpartition(":")[2])
    with pytest.raises(ValueError) as caught:
        fetch_small(f"{url}/0.tar")
    assert "\n" not in str(caught.value) and set(asked) == {"/0.tar"}


def test_a_redirect_on_the_same_host_is_followed(inner: tuple[str, list[str], dict[str, str]]) -> None:
    url, asked, sends = inner
    sends["/0.tar"] = f"{url}/1.tar"
    assert fetch_small(f"{url}/0.tar") == b"" and asked == ["/0.tar", "/1.tar"]


def test_a_redirect_to_a_file_is_no_file(inner: tuple[str, list[str], dict[str, str]], tmp_path: Path) -> None:
    url, asked, sends = inner
    (tmp_path / "secret").write_text("swordfish")
    sends["/0.tar"] = (tmp_path / "secret").as_uri()
    assert fetch_small(f"{url}/0.tar") is None and asked == ["/0.tar"]


@pytest.mark.parametrize("host", ["localhost", "10.0.0.7"])
def test_a_list_elsewhere_names_no_inner_host(host: str, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with web(tmp_path / "site") as server:
        (tmp_path / "site" / "list.txt").write_text(f"0.tar\nhttp://{host}/0.tar\n")
        with pytest.raises(ValueError, match="has 1 fault: line 2: host .* is of an inner network"):
            shards_of_list(f"{server.url}/list.txt", ShardCache(tmp_path / "cache"))
    here = tmp_path / "mine.txt"
    here.write_text(f"http://{host}/0.tar\n")
    assert shards_of_list(str(here), ShardCache(tmp_path / "cache")) == [f"http://{host}/0.tar"]  # one's own words


@pytest.fixture
def index(tmp_path: Path, make_tar: Callable[..., Path]) -> ShardIndex:
    return index_tar(make_tar(tmp_path / "0.tar", [("a.png", b"x"), ("b.png", b"y")]))


FORGED: dict[str, Callable[[ShardIndex], dict[str, Any]]] = {
    "a giant": lambda index: {
        "tar": {**index.tar, "bytes": 2**40},
        "size": np.full_like(index.size, MAX_MEMBER_BYTES + 1),
    },
    "a reason of its own": lambda index: {"rejected": {"=cmd|' /C calc'!A0": 1}},
    "a fault that writes on a terminal": lambda index: {"fault": "\x1b[2Jall is well"},
    "a fault of two lines": lambda index: {"fault": "damaged\nrobustclip: all is well"},
}


@pytest.mark.parametrize("name", FORGED)
def test_an_index_of_a_stranger_says_nothing_that_ours_could_not(name: str, index: ShardIndex) -> None:
    assert unpack_index(pack_index(index)).equals(index)
    with pytest.raises(ValueError, match="not as an index should be"):
        unpack_index(pack_index(replace(index, **FORGED[name](index))))


def test_an_index_nested_without_end_is_none(index: ShardIndex) -> None:
    deep = MAGIC + b'{"tar": ' + b"[" * 200_000 + b"\n"
    with pytest.raises(ValueError, match="not as an index should be"):
        unpack_index(deep + zlib.crc32(deep).to_bytes(4, "little"))
    header = json.dumps({"tar": index.tar, "extensions": 3, "rejected": [], "fault": None, "lengths": {}}).encode()
    odd = MAGIC + header + b"\n"
    with pytest.raises(ValueError, match="not as an index should be"):
        unpack_index(odd + zlib.crc32(odd).to_bytes(4, "little"))


@pytest.mark.parametrize("name", ["\x1b[2J.png", "a\nb.png", "\u202egnp.png"])
def test_a_tar_cut_short_in_a_member_of_an_odd_name_is_told_in_a_line_and_its_index_kept(
    name: str, tmp_path: Path, make_tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTCLIP_CACHE", str(tmp_path / "cache"))
    path = make_tar(tmp_path / "0.tar", [("a.png", b"x"), ("b.png", b"x"), (name, b"y" * 5000)])
    path.write_bytes(path.read_bytes()[:4000])
    for made in ("built", "read"):
        shards = IndexedShards([str(path)], skip_bad=True)
        assert shards.made == {made: 1} and shards.rejected == {"damaged shard": 1} and list(shards.keys) == ["a"]
    with pytest.raises(ValueError, match="is damaged or cut short in member") as caught:
        IndexedShards([str(path)])
    assert str(caught.value).isprintable()
