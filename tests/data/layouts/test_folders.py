from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.framing import Framing
from data.layouts.folders import class_folders as read_folders
from data.layouts.folders import sun397
from data.layouts.listing import ListedImages, place
from data.transforms import DecodeError
from tests.data.layouts.miniatures import class_folders, lines, picture


def test_class_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    class_folders(tmp_path / "val", ["n02", "n01"])
    found = read_folders(tmp_path, "val")
    assert found is not None
    assert list(found.classes) == ["n01", "n02"]
    assert list(found.keys) == ["n01/n01_0.JPEG", "n01/n01_1.JPEG", "n02/n02_0.JPEG", "n02/n02_1.JPEG"]
    assert list(found.labels) == [0, 0, 1, 1]
    with Image.open(tmp_path / "val/n02/n02_0.JPEG") as image:
        assert np.array_equal(np.asarray(found.picture(2)), np.asarray(image))


def test_the_folder_itself_or_its_parent_may_be_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "a/b", ["x", "y"])
    for named in (tmp_path, tmp_path / "a", tmp_path / "a/b"):
        assert place(named, "a/b") == tmp_path / "a/b"
        assert read_folders(named, "all", at="a/b") is not None
    assert place(tmp_path, "a/c") is None
    assert read_folders(tmp_path, "all", at="a/c") is None


def test_a_folder_that_is_no_class_is_left_out_only_where_that_is_said(tmp_path: Path) -> None:
    class_folders(tmp_path / "val", ["BACKGROUND_Google", "anchor"])
    kept = read_folders(tmp_path, "val", leave_out=("BACKGROUND_Google",))
    every = read_folders(tmp_path, "val")
    assert kept is not None and every is not None
    assert (list(kept.classes), len(kept.keys), len(every.keys)) == (["anchor"], 2, 4)


def test_pictures_one_level_down_are_found(tmp_path: Path) -> None:
    for name in ("n1", "n2"):
        picture(tmp_path / "train" / name / "images" / f"{name}_0.JPEG", 1)
    found = read_folders(tmp_path, "train")
    assert found is not None and list(found.keys) == ["n1/images/n1_0.JPEG", "n2/images/n2_0.JPEG"]


def test_an_empty_class_and_a_damaged_picture_are_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "val", ["a", "b"])
    (tmp_path / "val/c").mkdir()
    with pytest.raises(ValueError, match="class folder '.*c' holds no picture"):
        read_folders(tmp_path, "val")
    (tmp_path / "val/c").rmdir()
    (tmp_path / "val/a/a_0.JPEG").write_bytes(b"<html>")
    found = read_folders(tmp_path, "val")
    assert found is not None
    with pytest.raises(DecodeError, match=r"not an image .*a/a_0\.JPEG of 'odd'"):
        ListedImages(found, Framing(8), name="odd")[0]


def test_sun397_is_the_same_however_its_folders_are_walked(tmp_path: Path) -> None:
    root = tmp_path / "SUN397"
    lines(root / "ClassName.txt", ["/a/abbey", "/c/chalet", "/a/apartment_building/outdoor"])
    for i, key in enumerate(["a/abbey", "c/chalet", "a/apartment_building/outdoor"]):
        picture(root / key / f"sun_{9 - i}.jpg", i)
    found = sun397(tmp_path, "all")
    assert found is not None
    assert list(found.classes) == ["abbey", "chalet", "apartment_building/outdoor"]
    assert list(found.keys) == ["a/abbey/sun_9.jpg", "a/apartment_building/outdoor/sun_7.jpg", "c/chalet/sun_8.jpg"]
    assert list(found.labels) == [0, 2, 1]


def test_pictures_are_framed_as_the_resize_and_the_crop_say(tmp_path: Path) -> None:
    picture(tmp_path / "val/a/0.png", 0, side=(60, 40))
    picture(tmp_path / "val/b/0.png", 1, side=(40, 40))
    found = read_folders(tmp_path, "val")
    assert found is not None
    assert ListedImages(found, Framing(16, 32, "bilinear"), name="x")[0].x.shape == (3, 16, 16)
    assert ListedImages(found, Framing(), name="x")[0].x.shape == (3, 40, 60)
