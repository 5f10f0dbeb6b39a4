from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from data.catalog import DEFAULT_TEMPLATES, open_images, read_classes, read_templates
from data.make import make_from_sample
from data.sample import CLASSES, TEMPLATES, digits


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "numbers"
    make_from_sample("digits", path, per_shard=100)
    return path


def test_the_embedded_set_is_opened_by_its_name() -> None:
    source = open_images("digits", "test", 32)
    assert source.keys == digits("test").keys
    assert open_images("digits", "tune", 24)[0].x.shape == (3, 24, 24)


def test_a_folder_gives_pictures_classes_and_templates(root: Path) -> None:
    source = open_images(str(root), "test", 32)
    assert source.name == "numbers"
    assert tuple(source.classes) == CLASSES
    assert tuple(source.templates) == TEMPLATES
    assert source.keys == digits("test").keys


def test_the_split_folder_itself_is_taken_only_for_its_own_split(root: Path) -> None:
    assert open_images(str(root / "tune"), "tune", 32).name == "numbers"
    with pytest.raises(ValueError, match="is one split; name its parent"):
        open_images(str(root / "train"), "test", 32)


def test_tars_find_the_class_names_one_level_up(root: Path) -> None:
    source = open_images(f"{root}/test/{{1..2}}.tar", "test", 32)
    assert len(source) == 200
    assert tuple(source.classes) == CLASSES
    assert torch.equal(source[0].x, digits("test")[100].x)


def test_tars_without_class_names_have_none(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "test/0.tar", tmp_path / "x.tar")
    source = open_images(str(tmp_path / "x.tar"), "train", 32)
    assert source.classes == []
    assert source.templates == list(DEFAULT_TEMPLATES)
    assert source[0].y == digits("test").labels[0]


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ("imagenet", "unknown images 'imagenet'; choose digits, a folder, or tars like"),
        ("/no/such/folder", "no file '/no/such/folder'"),
        ("absent-{0..3}.tar", r"no file 'absent-0\.tar' \(4 of 4"),
        ("pipe:ls", "no address to read from; use http, https"),
        ("{root}", "no split 'val' in '.*'; it holds: test, train, tune"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(shards: str, message: str, root: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_images(shards.replace("{root}", str(root)), "val", 32)
    assert "\n" not in str(caught.value)


def test_a_split_without_its_number_of_shards_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "test", tmp_path / "test")
    (tmp_path / "test/nshards.txt").unlink()
    with pytest.raises(ValueError, match="no '.*nshards.txt'"):
        open_images(str(tmp_path), "test", 32)


def test_duplicate_classes_are_named_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "classnames.txt"
    path.write_text("crane\nship\ncrane\n")
    with pytest.raises(ValueError, match="classnames.txt' hold duplicates: 'crane' on lines 1, 3"):
        read_classes(path)


def test_templates_get_their_placeholder_and_must_have_one(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text('a photo of a {c}.\na "{c}" toy\n')
    assert read_templates(path) == ["a photo of a {}.", 'a "{}" toy']
    path.write_text("a photo of a {c}.\na photo\n")
    with pytest.raises(ValueError, match=r"line 2 of '.*' needs one \{c\}"):
        read_templates(path)
