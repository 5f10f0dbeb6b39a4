"""The stream and the index find the same samples, keys, labels and pixels in every tar, and refuse the same ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch

from data.catalog import open_images
from data.reading import Reading
from data.stream import open_stream
from data.transforms import DecodeError

Picture = Callable[..., bytes]
Write = Callable[..., Path]
Members = list[tuple[str, bytes] | tarfile.TarInfo]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zoo(picture: Picture) -> dict[str, Members]:
    """Members by the kind of tar, as people's tools write them."""
    a, b = picture(1), picture(2)
    hidden: Members = [(name, b"x") for name in ("._a.png", "._a.cls", ".DS_Store", "d/._a.jpg")]
    mislabeled: Members = [("a.png", a), ("a.cls", b"cat"), ("c.png", a), ("c.cls", b"7"), ("d.png", a), ("d.cls", b"")]
    pair: Members = [("a.png", a), ("a.cls", b"0"), ("b.png", b), ("b.cls", b"1")]
    return {
        "side by side": pair,
        "apart": [pair[0], pair[2], pair[1], pair[3]],
        "interleaved": [pair[0], pair[3], pair[1], pair[2]],
        "folders as members": [special("d", tarfile.DIRTYPE), ("d/a.png", a), ("d/a.cls", b"1"), *pair],
        "AppleDouble and hidden": [hidden[0], *pair, *hidden[1:]],
        "current folder": [("./" + str(name), content) for name, content in pair],  # pyright: ignore
        "long names": [("x" * 150 + ".png", a), ("x" * 150 + ".cls", b"1"), ("y" * 90 + "/" + "é" * 60 + ".png", b)],
        "links": [*pair, special("c.png", tarfile.SYMTYPE, "a.png"), special("c.cls", tarfile.LNKTYPE, "a.cls")],
        "dotted keys": [("a.1.png", a), ("a.1.cls", b"0"), ("b.png", b), ("b.cls", b"1")],
        "dotted collision": [("a.1.png", a), ("a.2.png", b), ("b.png", b)],
        "upper case": [("a.JPG", picture(1, (8, 8), "JPEG")), ("a.CLS", b"1"), ("b.PNG", b), ("c.JPEG", a)],
        "webp": [("a.webp", picture(1, (8, 8), "WEBP")), ("a.cls", b"1")],
        "extra members": [("a.json", b"{}"), ("a.png", a), ("a.txt", b"one"), ("a.mp4", b"x"), ("a.cls", b"0")],
        "subfolders": [("p/a.png", a), ("q/a.png", b), ("p/a.cls", b"0"), ("q/a.cls", b"1")],
        "twice": [*pair, ("a.png", b), ("a.cls", b"1")],
        "empty members": [("a.png", b""), ("a.cls", b"0"), *pair[2:]],
        "bad labels": [*mislabeled, *pair[2:]],
        "labels and no image": [("a.cls", b"0"), *pair[2:]],
        "pickles and strays": [("README", b"x"), ("a.pkl", b"x"), *pair, ("../c.png", b)],
        "Windows line ends": [("a.png", a), ("a.cls", b"1\r\n"), ("a.txt", b"\xef\xbb\xbfone\r\n")],
    }


NAMES = list(zoo(lambda *_: b""))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
@pytest.mark.parametrize("name", NAMES)
def test_stream_and_index_agree(name: str, form: int, tmp_path: Path, picture: Picture) -> None:
    with tarfile.open(tmp_path / "0.tar", "w", format=form) as tar:
        for member in zoo(picture)[name]:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    (tmp_path / "classnames.txt").write_text("zero\none\n")
    place = str(tmp_path / "0.tar")

    by_index = open_images(place, "test", 8)
    expected, bad = {}, []
    for i, key in enumerate(by_index.keys):
        try:
            expected[f"0/{key}"] = by_index[i]
        except DecodeError as error:
            bad.append(error.reason)

    streamed = open_stream(place, "test", 8, skip_bad=True, buffer=1, reading=Reading())
    found = {}
    for batch in islice(streamed.loader(batch_size=1, workers=0, seed=0), len(expected)):
        found[batch.key[0]] = batch
    assert found.keys() == expected.keys() and expected
    for key, sample in expected.items():
        batch = found[key]
        assert torch.equal(batch.x[0], sample.x) and int(batch.y[0]) == sample.y
        assert (batch.caption or (None,))[0] == sample.caption
    counts = streamed.faults.counts()
    assert sorted(bad) == sorted(reason for reason, count in counts["bad"].items() for _ in range(count))
    assert counts["refused"] == {} or counts["refused"] == by_index.bad_samples.counts()["refused"]  # pyright: ignore


def test_labels_and_captions_survive_dots_marks_and_windows(tmp_path: Path, picture: Picture, make_tar: Write) -> None:
    members = [("a.1.png", picture(1)), ("a.1.cls", b"1\r\n"), ("a.1.txt", b"\xef\xbb\xbfone\r\n")]
    source = open_images(str(make_tar(tmp_path / "x.tar", members)), "test", 8)
    assert [(sample.key, sample.y, sample.caption) for sample in (source[0],)] == [("a", 1, "one")]


def test_who_trains_on_labels_finds_samples_without_one_bad(tmp_path: Path, picture: Picture, make_tar: Write) -> None:
    members = [("a.png", picture(1)), ("a.json", b'{"label": 1}'), ("b.png", picture(2)), ("b.cls", b"1")]
    place = str(make_tar(tmp_path / "x.tar", members))
    with pytest.raises(DecodeError, match=r"^no label .*key 'a'"):
        open_images(place, "test", 8, labeled=True)[0]
    with pytest.raises(DecodeError, match=r"^no label .*key 'x/a'"):
        next(
            iter(open_stream(place, "test", 8, labeled=True, reading=Reading()).loader(batch_size=2, workers=0, seed=0))
        )
    source = open_images(place, "test", 8, labeled=True, skip_bad=True)
    assert [source[i].key for i in range(2)] == ["b", "b"] and source.bad() == {"no label": 1}
    assert open_images(place, "test", 8)[0].y == -1


def test_a_shard_whose_labels_follow_all_images_trains_as_a_stream(tmp_path: Path, picture: Picture) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for ending in ("png", "cls"):
            for i in range(4):
                content = picture(i) if ending == "png" else str(i % 2).encode()
                info = tarfile.TarInfo(f"k{i}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    source = open_stream(str(tmp_path / "0.tar"), "test", 8, reading=Reading())
    batch = next(iter(source.loader(batch_size=4, workers=0, seed=0)))
    assert dict(zip(batch.key, batch.y.tolist(), strict=True)) == {"0/k0": 0, "0/k1": 1, "0/k2": 0, "0/k3": 1}
