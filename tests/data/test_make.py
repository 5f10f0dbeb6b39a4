from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.catalog import open_images
from data.make import BadImagesError, make_from_folder, make_from_sample
from data.sample import captions, digits
from data.shards import IndexedShards, expand

Picture = Callable[..., bytes]


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    """Three classes of 1, 2 and 3 pictures, written in an order that is not that of their names."""
    root = tmp_path / "pictures"
    for label, name in reversed(list(enumerate(["ant", "bee", "cat with hat"]))):
        (root / name).mkdir(parents=True)
        for i in reversed(range(label + 1)):
            (root / name / f"b{i}.x.PNG").write_bytes(picture(10 * label + i, (8 + label, 8)))
    (root / ".DS_Store").write_bytes(b"x")
    (root / "ant/.hidden").write_bytes(b"x")
    return root


def _digest(folder: Path) -> list[tuple[str, str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(p.relative_to(folder)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]


def test_a_folder_becomes_shards_in_the_order_of_its_names(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = make_from_folder(folder, out, split="test", per_shard=4)
    assert summary == {
        "samples": 6,
        "shards": 2,
        "classes": {"ant": 1, "bee": 2, "cat with hat": 3},
        "bad": {},
        "bad_files": [],
    }
    index = IndexedShards(expand(str(out / "test")))
    assert [index.read(i)["path"].decode() for i in range(6)] == [
        "ant/b0.x.PNG",
        "bee/b0.x.PNG",
        "bee/b1.x.PNG",
        "cat with hat/b0.x.PNG",
        "cat with hat/b1.x.PNG",
        "cat with hat/b2.x.PNG",
    ]
    assert index.read(2)["png"] == (folder / "bee/b1.x.PNG").read_bytes()
    source = open_images(str(out), "test", 8)
    assert source.classes == ["ant", "bee", "cat with hat"]
    assert [source[i].y for i in range(6)] == [0, 1, 1, 2, 2, 2]


def test_making_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    make_from_folder(folder, tmp_path / "a", per_shard=4)
    make_from_folder(folder, tmp_path / "b", per_shard=4)
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b")
    assert len(_digest(tmp_path / "a")) == 5


def test_one_bad_picture_stops_the_making_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "bee/page.jpg").write_bytes(b"<html></html>")
    (folder / "bee/zero.png").write_bytes(b"")
    (folder / "cat with hat/notes.txt").write_text("hello")
    with pytest.raises(BadImagesError, match="3 of 9 files are bad") as caught:
        make_from_folder(folder, tmp_path / "out")
    assert caught.value.bad == [
        ("bee/page.jpg", "not an image"),
        ("bee/zero.png", "empty"),
        ("cat with hat/notes.txt", "not a picture's file name"),
    ]
    assert "(1 empty, 1 not a picture's file name, 1 not an image): bee/page.jpg" in str(caught.value)
    assert not any((tmp_path / "out").rglob("*"))


def test_bad_pictures_can_be_left_out_and_are_listed(folder: Path, tmp_path: Path) -> None:
    (folder / "bee/a.jpg").write_bytes(b"<html></html>")
    summary = make_from_folder(folder, tmp_path / "out", skip_bad=True)
    assert summary["samples"] == 6
    assert summary["bad"] == {"not an image": 1}
    assert summary["bad_files"] == [("bee/a.jpg", "not an image")]


def test_a_class_that_would_vanish_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "ant/b0.x.PNG").write_bytes(b"")
    with pytest.raises(ValueError, match="class 'ant' of '.*' holds no picture"):
        make_from_folder(folder, tmp_path / "out", skip_bad=True)


def test_a_second_split_must_have_the_same_classes(folder: Path, tmp_path: Path) -> None:
    make_from_folder(folder, tmp_path / "out", split="train")
    make_from_folder(folder, tmp_path / "out", split="test")
    with pytest.raises(ValueError, match="exists and is not empty"):
        make_from_folder(folder, tmp_path / "out", split="test")
    (folder / "ant").rename(folder / "aphid")
    with pytest.raises(ValueError, match="different classes"):
        make_from_folder(folder, tmp_path / "out", split="tune")


def test_what_is_no_folder_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder '.*absent'"):
        make_from_folder(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "flat").mkdir()
    with pytest.raises(ValueError, match="no class folders in"):
        make_from_folder(tmp_path / "flat", tmp_path / "out")


def test_the_embedded_set_survives_the_way_through_shards(tmp_path: Path) -> None:
    summary = make_from_sample("digits", tmp_path / "out", per_shard=400)
    assert summary == {
        "train": {"samples": 1197, "shards": 3},
        "tune": {"samples": 300, "shards": 1},
        "test": {"samples": 300, "shards": 1},
    }
    direct = digits("test")
    stored = open_images(str(tmp_path / "out"), "test", 32)
    texts = captions(direct)
    for i in range(0, 300, 29):
        a, b = direct[i], stored[i]
        assert torch.equal(a.x, b.x)
        assert (a.y, a.key, texts[i]) == (b.y, b.key, b.caption)
    assert captions(stored)[:5] == texts[:5]


def test_an_unknown_set_and_a_full_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown embedded set 'mnist'; choose digits"):
        make_from_sample("mnist", tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        make_from_sample("digits", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
