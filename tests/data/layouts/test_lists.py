from __future__ import annotations

from pathlib import Path

import pytest

from data.layouts.lists import aircraft, dtd, food101, pets
from data.layouts.matlab import cars as read_cars
from data.layouts.matlab import flowers102 as read_flowers
from tests.data.layouts.miniatures import cars, flowers102, lines, picture


def test_dtd_takes_the_first_partition(tmp_path: Path) -> None:
    for name in ("banded", "woven"):
        for i in range(3):
            picture(tmp_path / f"dtd/images/{name}/{name}_000{i}.jpg", i)
    lines(tmp_path / "dtd/labels/test1.txt", ["woven/woven_0001.jpg", "banded/banded_0002.jpg"])
    found = dtd(tmp_path, "test")
    assert found is not None
    assert list(found.keys) == ["banded/banded_0002.jpg", "woven/woven_0001.jpg"]
    assert (list(found.classes), list(found.labels)) == (["banded", "woven"], [0, 1])
    found.picture(1)
    with pytest.raises(ValueError, match="train1.txt', which this layout has"):
        dtd(tmp_path, "train")


def test_pets_are_labelled_by_the_second_column(tmp_path: Path) -> None:
    root = tmp_path / "oxford-iiit-pet"
    rows = ["Abyssinian_1 1 1 1", "american_bulldog_100 2 2 1", "Abyssinian_2 1 1 1"]
    lines(root / "annotations/test.txt", ["# a comment", *rows])
    for row in rows:
        picture(root / f"images/{row.split()[0]}.jpg", 0)
    for named in (tmp_path, root):
        found = pets(named, "test")
        assert found is not None
        assert list(found.classes) == ["Abyssinian", "american bulldog"]
        assert list(found.labels) == [0, 0, 1]


def test_aircraft_are_variants_with_blanks_in_their_names(tmp_path: Path) -> None:
    root = tmp_path / "fgvc-aircraft-2013b/data"
    lines(root / "variants.txt", ["707-320", "F/A-18", "Model B200"])
    lines(root / "images_variant_test.txt", ["0002 Model B200", "0001 707-320"])
    picture(root / "images/0001.jpg", 0)
    found = aircraft(tmp_path, "test")
    assert found is not None
    assert (list(found.keys), list(found.labels)) == (["0001.jpg", "0002.jpg"], [0, 2])
    assert aircraft(tmp_path, "nonsense") is None


def test_food_keeps_its_raw_names(tmp_path: Path) -> None:
    root = tmp_path / "food-101"
    lines(root / "meta/classes.txt", ["waffles", "apple_pie"])
    lines(root / "meta/test.txt", ["waffles/2", "apple_pie/1"])
    picture(root / "images/apple_pie/1.jpg", 0)
    found = food101(tmp_path, "test")
    assert found is not None
    assert (list(found.classes), list(found.labels)) == (["apple_pie", "waffles"], [0, 1])


@pytest.mark.parametrize(("line", "message"), [("ufo/1", "is none of 1"), ("../x/1", "is none of 1")])
def test_a_list_that_names_no_class_or_leads_out_is_refused(tmp_path: Path, line: str, message: str) -> None:
    lines(tmp_path / "food-101/meta/classes.txt", ["apple_pie"])
    lines(tmp_path / "food-101/meta/test.txt", [line])
    picture(tmp_path / "food-101/images/apple_pie/1.jpg", 0)
    with pytest.raises(ValueError, match=message):
        food101(tmp_path, "test")
    lines(tmp_path / "food-101/meta/test.txt", ["apple_pie/../../../x"])
    with pytest.raises(ValueError, match="leads out of"):
        food101(tmp_path, "test")


def test_flowers_are_numbered_and_labels_start_at_one(tmp_path: Path) -> None:
    flowers102(tmp_path, [2, 1, 3, 2], [4, 1])
    found = read_flowers(tmp_path, "test")
    assert found is not None
    assert list(found.keys) == ["image_00001.jpg", "image_00004.jpg"]
    assert (list(found.labels), list(found.classes)) == ([1, 1], ["class 1", "class 2", "class 3"])
    found.picture(1)


def test_a_flower_beyond_the_labels_and_a_damaged_matlab_file_are_named(tmp_path: Path) -> None:
    flowers102(tmp_path, [2, 1], [3])
    with pytest.raises(ValueError, match="names picture 3 of 2"):
        read_flowers(tmp_path, "test")
    (tmp_path / "flowers-102/setid.mat").write_bytes(b"no matlab" * 30)
    with pytest.raises(ValueError, match="setid.mat' is damaged"):
        read_flowers(tmp_path, "test")


def test_cars_come_with_their_whole_names(tmp_path: Path) -> None:
    cars(tmp_path, ["AM General Hummer SUV 2000", "Audi S4 Sedan 2012"], [("00002.jpg", 2), ("00001.jpg", 1)])
    found = read_cars(tmp_path, "test")
    assert found is not None
    assert list(found.classes) == ["AM General Hummer SUV 2000", "Audi S4 Sedan 2012"]
    assert (list(found.keys), list(found.labels)) == (["00001.jpg", "00002.jpg"], [0, 1])
    found.picture(0)
