"""Odd-one-out triplets in miniature: concepts in order, the odd one last in the table and anywhere in the triplet."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from data.framing import Framing
from data.layouts.odd_one_out import ODD_CLASSES, open_odd_one_out
from data.sample import digits
from data.transforms import DecodeError
from data.triplets import TripletImages

NAMES = ("zebra", "ant", "cup", "oak")  # in an order of their own


@pytest.fixture
def things(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for ending, shade in (("01b", 10 * number), ("02s", 200)):
            Image.new("RGB", (8, 8), (shade, 0, 0)).save(tmp_path / "images" / name / f"{name}_{ending}.png")
    (tmp_path / "unique_id.txt").write_text("\n".join(NAMES) + "\n")
    (tmp_path / "testset1.txt").write_text("0 1 2\n3 2 1\n0.0 3.0 1.0\n1 2 0\n2 3 0\n1 0 3\n")
    return tmp_path


def test_the_odd_one_is_the_last_of_its_line_and_the_first_picture_of_a_concept_counts(things: Path) -> None:
    found = open_odd_one_out(str(things), "test")
    rows = [(0, 1, 2), (3, 2, 1), (0, 3, 1), (1, 2, 0), (2, 3, 0), (1, 0, 3)]
    for index, row in enumerate(rows):
        shades = [found.picture(index, which).getpixel((0, 0))[0] // 10 for which in range(3)]  # pyright: ignore
        assert shades[found.labels[index]] == row[2] and sorted(shades) == sorted(row)
    assert set(found.labels) == {0, 1, 2}  # a constant answer is no better than chance


def test_without_a_list_the_concepts_are_sorted(things: Path) -> None:
    (things / "unique_id.txt").unlink()
    found = open_odd_one_out(str(things), "testset1")
    odd = found.picture(0, found.labels[0]).getpixel((0, 0))[0]  # pyright: ignore
    assert odd // 10 == NAMES.index(sorted(NAMES)[2])


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("testset1.txt", "0 1\n", "three in each line"),
        ("testset1.txt", "0 1 2\n0 1\n", "three in each line"),
        ("testset1.txt", "a b c\n", "three in each line"),
        ("testset1.txt", "0 1 nan\n", "whole numbers"),
        ("testset1.txt", "0 1 1.5\n", "whole numbers"),
        ("testset1.txt", "0 1 2\n0 1 4\n", "triplet 2 is '0 1 4': not three different ones of 4"),
        ("testset1.txt", "0 1 1\n", "not three different"),
        ("testset1.txt", "0 -1 1\n", "not three different"),
        ("testset1.txt", "\n", "holds no triplet"),
        ("unique_id.txt", "zebra\nyak\n", "lacks 1 of 2 concepts, such as yak"),
    ],
)
def test_tables_that_cannot_be_are_refused_in_one_line(things: Path, file: str, content: str, told: str) -> None:
    (things / file).write_text(content)
    with pytest.raises(ValueError, match=told) as error:
        open_odd_one_out(str(things), "test")
    assert len(str(error.value).splitlines()) == 1


def test_what_is_not_there_is_named(things: Path, tmp_path: Path) -> None:
    for place, split, told in (
        ("nowhere", "test", "no folder of triplets at 'nowhere'"),
        (str(things), "val", r"no val\.txt and no validationset\.txt"),
        (str(things / "images"), "test", r"no test\.txt"),
    ):
        with pytest.raises(ValueError, match=told):
            open_odd_one_out(place, split)
    (things / "images" / "ant" / "ant_01b.png").write_bytes(b"no picture")
    source = TripletImages(open_odd_one_out(str(things), "test"), Framing(8), name="things", classes=ODD_CLASSES)
    with pytest.raises(DecodeError, match=r"the (first|second|third) of testset1-0000000 of 'things'"):
        source[0]


def test_two_of_the_embedded_digits_are_of_one_class() -> None:
    found, labels = open_odd_one_out("digit-odd-ones", "test"), digits("test").labels
    rows = found.picture.rows  # pyright: ignore[reportFunctionMemberAccess]
    assert len(rows) == len(labels)
    for same, other, odd in rows[:50]:
        assert same != other and labels[same] == labels[other] != labels[odd]
    with pytest.raises(ValueError, match="choose one of: train, val, test"):
        open_odd_one_out("digit-odd-ones", "all")
