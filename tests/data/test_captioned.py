from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from data.captioned import captioned
from data.catalog import open_images
from data.images import ArrayImages
from data.sample import captions, digits

MakeTar = Callable[[Path, Sequence[tuple[str, bytes]]], Path]


def _tar(make_tar: MakeTar, picture: Callable[..., bytes], path: Path, names: Sequence[str]) -> str:
    content = {"png": lambda i: picture(i), "txt": lambda i: f"text {i}\n".encode(), "cls": lambda i: b"1"}
    members = [(name, content[name.rpartition(".")[2]](i)) for i, name in enumerate(names)]
    return str(make_tar(path, members))


PAIRS = ("a.png", "a.txt", "b.png", "c.txt", "d.png", "d.txt", "e.png", "e.txt")


def test_own_captions_are_kept(make_tar: MakeTar, picture: Callable[..., bytes], tmp_path: Path) -> None:
    url = _tar(make_tar, picture, tmp_path / "x.tar", [name for name in PAIRS if name[0] not in "bc"])
    source = captioned(open_images(url, "train", 8))
    assert [source[i].caption for i in range(3)] == ["text 1", "text 3", "text 5"]


def test_lone_halves_are_counted_and_named(
    make_tar: MakeTar, picture: Callable[..., bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = _tar(make_tar, picture, tmp_path / "x.tar", PAIRS)
    message = "of 5 samples of .*, 1 have no picture, such as .*'c', 1 have no caption, such as .*'b'"
    with pytest.raises(ValueError, match=f"{message}; complete them, or leave them out with skip_bad"):
        captioned(open_images(url, "train", 8))
    with caplog.at_level(logging.WARNING):
        source = captioned(open_images(url, "train", 8, skip_bad=True))
    assert "1 have no caption" in caplog.text
    assert [source[i].key for i in range(5)] == ["a", "d", "d", "d", "e"]
    assert all(source[i].caption for i in range(5))
    assert source.bad() == {"no picture": 1, "no caption": 1}


def test_classes_speak_where_there_are_no_captions(
    make_tar: MakeTar, picture: Callable[..., bytes], tmp_path: Path
) -> None:
    url = _tar(make_tar, picture, tmp_path / "x.tar", ["a.png", "a.cls"])
    with pytest.raises(ValueError, match="no pair of a picture and a caption .*, and no class names"):
        captioned(open_images(url, "train", 8))
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    assert captioned(open_images(url, "train", 8))[0].caption == "a photo of a dog."


def test_the_embedded_digits_have_the_captions_of_their_labels() -> None:
    source, bare = captioned(digits("tune", 20)), digits("tune", 20)
    assert [source[i].caption for i in range(20)] == captions(bare)
    assert source.keys == bare.keys and source[3].y == bare[3].y
    spoken = ArrayImages(bare.pixels, bare.labels, bare.keys, captions=["x"] * 20)
    assert captioned(spoken) is spoken
