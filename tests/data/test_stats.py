"""The statistics of shards are those that a slow look at each picture gives."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.shards import write_shards
from data.stats import shard_statistics

Picture = Callable[..., bytes]


def test_what_is_there_and_what_is_bad_is_counted(
    tmp_path: Path, picture: Picture, make_tar: Callable[..., Path]
) -> None:
    members = [
        ("a.png", picture(0, (8, 6))),
        ("a.cls", b"1"),
        ("a.txt", b"text"),
        ("b.png", picture(1, (8, 6))),
        ("b.cls", b"1"),
        ("c.jpg", picture(2, (9, 9), "JPEG")),
        ("d.jpg", b"<html>"),
        ("e.cls", b"0"),
        ("f.png", picture(3)),
        ("f.cls", b"7"),
        ("g.pkl", b"x"),
    ]
    make_tar(tmp_path / "x/0.tar", members)
    (tmp_path / "x/classnames.txt").write_text("ant\nbee\n")
    found = shard_statistics(str(tmp_path / "x/0.tar"), "test")
    assert (found["samples"], found["shards"], found["unlabelled"], found["captions"]) == (6, 1, 1, 1)
    assert found["classes"] == {"ant": 0, "bee": 2}
    assert found["sizes"] == {"8 x 6": 2, "9 x 9": 1} and found["formats"] == {"JPEG": 1, "PNG": 2}
    assert found["bad"] == {"bad label": 1, "no picture": 1, "not an image": 1}
    assert found["rejected"] == {"pickled": 1}
    (tmp_path / "x/classnames.txt").unlink()
    assert shard_statistics(str(tmp_path / "x/0.tar"), "test")["classes"] == {"1": 2, "7": 1}


@pytest.mark.parametrize("workers", [0, 2])
def test_numbers_are_those_of_a_slow_look(workers: int, tmp_path: Path, picture: Picture) -> None:
    sizes = [(10, 30), (10, 19), (10, 14), (10, 10), (13, 10), (16, 10), (25, 10), (20, 10), (10, 10)]
    contents = [picture(i % 7, size) for i, size in enumerate(sizes)]
    contents.append(contents[2])  # in another shard
    write_shards(tmp_path / "s" / "test", ({"__key__": f"k{i}", "png": c} for i, c in enumerate(contents)), per_shard=4)
    found = shard_statistics(str(tmp_path / "s"), "test", workers=workers)
    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
    pixels = np.concatenate([np.asarray(image, dtype=np.float64).reshape(-1, 3) / 255 for image in images])
    assert np.allclose(found["mean"], pixels.mean(axis=0), atol=1e-12)
    assert np.allclose(found["std"], pixels.std(axis=0), atol=1e-12)
    assert found["picture_bytes"] == sum(map(len, contents))
    assert found["duplicates"] == 1
    assert found["duplicate_groups"] == [[_where(tmp_path, 0, "k2"), _where(tmp_path, 2, "k9")]]
    assert found["sizes"] == {f"{w} x {h}": n for (w, h), n in Counter(image.size for image in images).items()} or (
        dict(found["sizes"]) == dict(Counter(f"{image.width} x {image.height}" for image in images))
    )
    assert list(found["aspects"].values()) == [1, 1, 2, 2, 1, 1, 2]
    assert (found["width"][0], found["width"][3], found["width"][-1]) == (10, 10, 25)
    json.dumps(found)


def _where(folder: Path, shard: int, key: str) -> str:
    return f"shard '{folder}/s/test/{shard}.tar', key '{key}'"


def test_a_shard_that_cannot_be_read_is_counted(tmp_path: Path, picture: Picture) -> None:
    write_shards(tmp_path / "s" / "test", [{"__key__": f"k{i}", "png": picture(i)} for i in range(4)], per_shard=2)
    (tmp_path / "s" / "test" / "1.tar").write_bytes(b"<html>" * 500)
    found = shard_statistics(str(tmp_path / "s"), "test")
    assert found["samples"] == 2 and sum(found["rejected"].values()) >= 1
    with pytest.raises(
        ValueError,
        match=r"^none of the 1 shards of '.*/1.tar' can be read; the first: .* holds no samples: .* not a readable",
    ):
        shard_statistics(str(tmp_path / "s" / "test" / "1.tar"), "test")
