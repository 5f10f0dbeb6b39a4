from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data.check import check_shards
from data.index_store import find_index
from data.shards import write_shards

Picture = Callable[..., bytes]


def _make(folder: Path, picture: Picture, **bad: dict[str, bytes]) -> list[Path]:
    """Three shards of four good samples, changed where ``bad`` says so."""
    samples = [
        {"__key__": f"s{i}", "png": picture(i), "cls": str(i % 2), "txt": "x"} | bad.get(f"s{i}", {}) for i in range(12)
    ]
    paths = write_shards(folder, samples, per_shard=4)
    (folder.parent / "classnames.txt").write_text("even\nodd\n")
    return paths


@pytest.mark.parametrize("workers", [0, 2])
def test_good_shards_are_sound(workers: int, tmp_path: Path, picture: Picture) -> None:
    _make(tmp_path / "x/train", picture)
    found = check_shards(str(tmp_path / "x"), "train", workers=workers)
    assert found.sound and (found.shards, found.samples, found.good) == (3, 12, 12)
    assert json.loads(json.dumps(found.plain())) == {
        "sound": True, "evaluate": "yes", "shards": 3, "samples": 12, "good": 12, "labeled": 12,
        "bad": {}, "rejected": {}, "faults": {}, "examples": {},
    }  # fmt: skip


def test_each_kind_of_fault_is_counted_and_shown(tmp_path: Path, picture: Picture) -> None:
    paths = _make(
        tmp_path / "x/train",
        picture,
        s0={"png": b"no"},
        s1={"cls": b"cat"},
        s5={"txt": b"\xff\xfe"},
        s6={"jpg": picture(1)},
        s7={"pth": b"code"},
    )
    paths[2].write_bytes(paths[2].read_bytes()[:5000])
    found = check_shards(str(tmp_path / "x"), "train")
    assert found.bad == {"not an image": 1, "bad label": 1, "bad caption": 1, "several pictures": 1}
    assert found.rejected == {"pickled": 1}
    assert found.faults == {"damaged shard": 1, "not as its index.json says": 1}
    assert found.good == found.samples - 4 and not found.sound
    assert json.loads(json.dumps(found.plain()))["faults"] == {"damaged shard": 1, "not as its index.json says": 1}
    assert found.examples["not an image"] == [f"shard '{paths[0]}', key 's0' (cls, png, txt)"]


def test_changed_bytes_a_lying_index_and_an_empty_shard_are_found(tmp_path: Path, picture: Picture) -> None:
    paths = _make(tmp_path / "x/train", picture)
    data = bytearray(paths[0].read_bytes())
    data[data.index(b"s3.txt") + 512] ^= 1  # a caption, which is no less a caption
    paths[0].write_bytes(data)
    file = find_index(paths[1]).file
    assert file is not None
    file.write_bytes(Path(find_index(paths[2]).file or "").read_bytes())
    paths[2].write_bytes(bytes(1024))
    found = check_shards(str(tmp_path / "x"), "train")
    assert found.faults == {
        "not as its index.json says": 1,
        "index of another tar (made again)": 2,
        "unreadable shard": 1,
    }
    assert not found.bad and not found.sound and found.good == 8
