"""Shards and pictures made to hurt: nothing runs, nothing escapes, memory stays small, and the rest is read."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from data.index_file import index_tar
from data.shard_index import IndexedShards
from data.tars import ShardError
from tests.waiting import CEILING

Picture = Callable[..., bytes]
ROOT = Path(__file__).parents[2]
GIB = 2**30


class Canary:
    """Runs a command where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.file}'",)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def good(tar: tarfile.TarFile, key: str, content: bytes) -> None:
    for name, data in ((f"{key}.png", content), (f"{key}.cls", b"1")):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels, of which the beginning is really there."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    rows = zlib.compress(bytes(2**26))
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)),
        (b"IDAT", rows),
        (b"IEND", b""),
    ):
        parts += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(kind + data))]
    return b"".join(parts)


def sparse(path: Path, *parts: tuple[int, bytes], size: int) -> None:
    """A file that claims to be long and takes no room."""
    with path.open("wb") as file:
        for offset, content in parts:
            file.seek(offset)
            file.write(content)
        file.truncate(size)


def hostile(folder: Path, picture: Picture, canary: Path) -> int:
    """Shards ``0.tar`` ... with all that is known to hurt, between good samples; how many shards."""
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        good(tar, "first", picture(0))
        for name in ("a.pkl", "b.pyd", "c.pth", "d.pt", "e.x.pickle"):
            data = pickle.dumps(Canary(canary))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name in ("../escaped.png", "/tmp/escaped.png", "a/../../escaped.png"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("linked.png")
            info.type, info.linkname, info.devmajor, info.devminor = kind, "/etc/passwd", 1, 5
            tar.addfile(info)
        good(tar, "bomb", bomb())
        good(tar, "last", picture(1))
    (folder / "1.tar").write_bytes(gzip.compress(gzip.compress(bytes(2**28), 9)))  # 256 MiB, twice compressed
    (folder / "2.tar").write_bytes(gzip.compress(bytes(2**28), 9))
    end = 512 + 5 * GIB  # a member of 5 GiB that is really there, then a good one
    tail = io.BytesIO()
    with tarfile.open(fileobj=tail, mode="w") as tar:
        good(tar, "behind", picture(2))
    sparse(folder / "3.tar", (0, header("giant.png", 5 * GIB)), (end, tail.getvalue()), size=end + len(tail.getvalue()))
    for number, kind in ((4, tarfile.XHDTYPE), (5, tarfile.GNUTYPE_LONGNAME), (6, tarfile.XGLTYPE)):
        sparse(folder / f"{number}.tar", (0, header("head", 5 * GIB, kind)), size=6 * GIB)
    record = b"19 comment=xxxxxxx\n"
    chain = (header("x", len(record), tarfile.XHDTYPE) + record.ljust(512, b"\0")) * 2000
    (folder / "7.tar").write_bytes(chain + header("s.png", 0) + bytes(1024))
    (folder / "nshards.txt").write_text("8\n")
    return 8


READER = """
import json, resource, sys
from data.catalog import open_images
from data.images import training_loader
from data.plan import PositionBatches
from data.reading import Reading
from data.stream import open_stream

def peak():
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024

where, kind, small = sys.argv[1:]
reading = Reading(cache_dir=sys.argv[1] + "-cache")

def read(where):
    if kind == "index":
        source = open_images(where, "test", 8, skip_bad=True, reading=reading)
        order = PositionBatches(n=len(source), batch_size=2, seed=0, limit=8)
        loader = training_loader(source, order, 0, seed=0)
    else:
        source = open_stream(where, "test", 8, skip_bad=True, buffer=1, reading=reading)
        loader = source.loader(batch_size=1, workers=0, seed=0)
    keys = set()
    for number, batch in enumerate(loader):
        keys |= {key.rpartition("/")[2] for key in batch.key}
        if number == 15:
            break
    return source, keys

read(small)  # libraries
before = peak()
source, keys = read(where)
print(json.dumps({"keys": sorted(keys), "grown": peak() - before, **source.bad_samples.counts()}))
"""


@pytest.mark.parametrize("kind", ["index", pytest.param("stream", marks=pytest.mark.slow)])
def test_nothing_runs_nothing_escapes_memory_stays_small_and_the_rest_is_read(
    kind: str, tmp_path: Path, picture: Picture
) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "set").mkdir()
    shards = hostile(tmp_path / "set" / "test", picture, canary)
    (tmp_path / "plain" / "test").mkdir(parents=True)
    with tarfile.open(tmp_path / "plain" / "test" / "0.tar", "w") as tar:
        good(tar, "a", picture(0))
        good(tar, "b", picture(1))
    (tmp_path / "plain" / "test" / "nshards.txt").write_text("1\n")
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.name and path.suffix != ".index"}
    ended = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "set"), kind, str(tmp_path / "plain")],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ROBUSTCLIP_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        timeout=CEILING,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["keys"] == ["behind", "first", "last"]
    assert found["grown"] < 200, f"{found['grown']:.0f} MiB"
    assert not canary.exists()
    after = {path for path in tmp_path.rglob("*") if "cache" not in str(path) and path.suffix != ".index"}
    assert after == {path for path in before if "cache" not in str(path)} and not Path("/tmp/escaped.png").exists()
    once = {"pickled": 5, "path leaves the folder": 3, "link": 2, "not a plain file": 3, "too large": 1}
    if kind == "index":
        assert found["refused"] == {**once, "damaged shard": shards - 2} and found["bad"] == {"too many pixels": 1}
    else:  # each pass counts anew
        times = found["refused"]["pickled"] // 5
        assert times >= 1 and found["bad"]["too many pixels"] >= times
        assert all(found["refused"][reason] >= count for reason, count in once.items())


@pytest.mark.parametrize(("keys", "said"), [(2000, ""), (101, "global headers")])
def test_headers_that_never_end_are_a_damaged_shard(keys: int, said: str, tmp_path: Path) -> None:
    parts = []
    for i in range(keys):
        record = b"24 k%05d=%s\n" % (i, b"x" * 13)
        kind = tarfile.XGLTYPE if said else tarfile.XHDTYPE
        parts.append(header("x", len(record), kind) + record.ljust(512, b"\0"))
        if said and i % 50 == 49:
            parts.append(header(f"s{i}.txt", 0))
    (tmp_path / "0.tar").write_bytes(b"".join(parts) + header("s.png", 0) + bytes(1024))
    assert said in index_tar(tmp_path / "0.tar").fault != ""


def test_endless_names_are_refused_and_counted(tmp_path: Path, make_tar: Callable[..., Path]) -> None:
    path = make_tar(tmp_path / "0.tar", [("a" * 2000 + ".png", b"x"), ("b.png", b"y"), ("c." + "d" * 2000, b"z")])
    index = index_tar(path)
    assert index.all_keys() == ["b"] and index.rejected == {"name is too long": 2}


def test_more_kinds_of_members_than_can_be_told_apart_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tar: Callable[..., Path]
) -> None:
    monkeypatch.setattr("data.index_file.MAX_EXTENSIONS", 4)
    path = make_tar(tmp_path / "0.tar", [(f"s.{i}", b"") for i in range(5)])
    with pytest.raises(ShardError, match=r"has members of 5 kinds; 4 can be told apart$"):
        IndexedShards([str(path)])
