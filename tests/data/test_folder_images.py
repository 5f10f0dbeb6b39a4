"""A user's own folder of images is opened as torchvision's ImageFolder opens it, or refused in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.captioned import captioned
from data.catalog import locate, open_images
from data.folder_images import holds_images
from data.make import make_from_folder
from data.reading import Reading
from data.shards import write_shards
from data.source import ImageSource, same_files
from data.stream import open_stream

Picture = Callable[..., bytes]
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, picture: Picture) -> Make:
    """Write an image to each of some paths below a folder."""

    def write(*names: str) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / "own" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(number, form="JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"))
        return tmp_path / "own"

    return write


def labels(source: ImageSource) -> list[tuple[str, int]]:
    return [(sample.key, sample.y) for sample in source.__getitems__(range(len(source)))]


def test_folders_are_what_torchvision_makes_of_them(make: Make) -> None:
    import modules  # noqa: F401  makes torchvision importable beside any torch

    datasets = pytest.importorskip("torchvision.datasets")
    root = make("cat/b.PNG", "cat/a.jpg", "great dog/in/1.JPEG", "great dog/0.webp", "Zebra/x.y.png", "we{}ird/é.png")
    (root / "linked").symlink_to(root / "cat")
    source = open_images(str(root), "test", 8)
    reference = datasets.ImageFolder(str(root))
    assert source.classes == reference.classes
    assert sorted(labels(source)) == sorted((os.path.relpath(path, root), y) for path, y in reference.samples)
    assert torch.equal(source[0].x, source.__getitems__([0])[0].x) and source.templates == ["a photo of a {}."]


def test_a_split_is_read_where_there_is_one(make: Make) -> None:
    root = make("train/a/0.png", "train/b/1.png", "test/a/2.png", "test/b/3.png", "test/b/4.png")
    test, train = (open_images(str(root), split, 8) for split in ("test", "train"))
    assert (len(test), len(train)) == (3, 2) and not same_files(test, train)
    with pytest.raises(ValueError, match="^no split 'tune' in '.*own'; it holds: test, train$"):
        open_images(str(root), "tune", 8)
    plain = [open_images(str(root / "test"), split, 8) for split in ("test", "tune")]
    assert same_files(*plain)  # one folder, whichever split is asked for


def test_what_systems_leave_behind_is_no_image_and_no_class(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    root = make("a/0.png", "a/._0.png", "a/.thumb/1.png", "b/0.png", ".ipynb_checkpoints/0.png", "__MACOSX/0.png")
    for name in (".DS_Store", "a/Thumbs.db", "b/desktop.ini"):
        (root / name).write_bytes(b"x")
    assert labels(open_images(str(root), "test", 8)) == [("a/0.png", 0), ("b/0.png", 1)] and not caplog.text
    (root / "b" / "1.heic").write_bytes(b"x")
    open_images(str(root), "test", 8)
    assert "skipped 1 file(s)" in caplog.text and "b/1.heic" in caplog.text
    summary = make_from_folder(root, root.parent / "shards", skip_bad=True)
    assert summary["classes"] == {"a": 1, "b": 1} and summary["bad_files"] == [
        ("b/1.heic", "not a picture's file name")
    ]


def test_images_without_classes_have_no_labels(make: Make) -> None:
    source = open_images(str(make("1.png", "0.png")), "train", 8)
    assert (source.classes, labels(source)) == ([], [("0.png", -1), ("1.png", -1)])
    with pytest.raises(ValueError, match="no class names or no templates to make captions from"):
        captioned(source)


def test_a_list_of_classes_names_the_folders(make: Make) -> None:
    root = make("n01/0.png", "n02/0.png")
    (root / "classnames.txt").write_text("tench\ngoldfish\n")
    assert open_images(str(root), "test", 8).classes == ["tench", "goldfish"]
    (root / "classnames.txt").write_text("n02\nn01\n")
    source = open_images(str(root), "test", 8)
    assert (source.classes, labels(source)) == (["n02", "n01"], [("n01/0.png", 1), ("n02/0.png", 0)])
    (root / "classnames.txt").write_text("n01\nn02\nn03\n")
    with pytest.raises(ValueError, match="names 3 classes and '.*' has 2 class folders"):
        open_images(str(root), "test", 8)


def test_one_word_is_one_class_whichever_system_wrote_it(make: Make) -> None:
    root = make("cafe\u0301/0.png", "tea/0.png")
    assert open_images(str(root), "test", 8).classes == ["caf\u00e9", "tea"]
    make_from_folder(root, root.parent / "shards")
    assert open_images(str(root.parent / "shards"), "test", 8).classes == ["caf\u00e9", "tea"]
    make("caf\u00e9/0.png")
    with pytest.raises(ValueError, match="duplicates: 'caf\u00e9' on lines"):
        open_images(str(root), "test", 8)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a/0.png", "b/readme.md"], "class folder '.*b' holds no image; fill or remove it"),
        (["a/0.png", "0.png"], "holds 1 images, such as '0.png', beside the class folder 'a'"),
        (["a/\udcff.png", "b/0.png"], r"udcff.png' is not UTF-8; rename it"),
        (
            ["set/train/a/0.png", "set/test/a/0.png"],
            "holds no class folders: 'set' in it holds splits .*; name '.*own/set'",
        ),
        (["a/readme.md"], "holds no images and no split 'test' of shards"),
    ],
)
def test_what_is_ambiguous_is_refused_in_one_line(names: list[str], told: str, make: Make) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        open_images(str(make(*names)), "test", 8)
    assert "\n" not in str(caught.value)


def test_a_training_skips_bad_images_and_counts_them(make: Make) -> None:
    root = make("a/0.png", "b/0.png")
    (root / "a" / "1.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"not an image .*a/1\.png of 'own'"):
        open_images(str(root), "test", 8)[1]
    source = open_images(str(root), "test", 8, skip_bad=True)
    assert [key for key, _ in labels(source)] == ["a/0.png", "b/0.png", "b/0.png"] and source.bad() == {
        "not an image": 1
    }
    with pytest.raises(ValueError, match="1 of 3 images of 'own' are bad"):
        labels(open_images(str(root), "test", 8, skip_bad=True, reading=Reading(max_bad=0.1)))


def test_a_link_that_leads_back_up_ends(make: Make) -> None:
    root = make("a/0.png", "b/0.png")
    (root / "a" / "again").symlink_to(root / "a")
    assert len(open_images(str(root), "test", 8)) == 2


def test_shards_are_shards_and_a_folder_has_none(make: Make, picture: Picture, tmp_path: Path) -> None:
    root = make("a/0.png", "b/0.png")
    with pytest.raises(ValueError, match="write shards of it with: robustclip data make"):
        locate(str(root), "test")
    write_shards(tmp_path / "x" / "test", [{"__key__": "a", "png": picture(0)}])
    assert not holds_images(str(tmp_path / "x"), "test") and not holds_images("digits", "test")
    assert holds_images(str(root), "test")
    with pytest.raises(ValueError, match="is a folder of images, which are not streamed; leave data.stream out"):
        open_stream(str(root), "test", 8, reading=Reading())
    with pytest.raises(ValueError, match="data.order=shards needs shards"):
        open_images(str(root), "test", 8, reading=Reading(order="shards"))
