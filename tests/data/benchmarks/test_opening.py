"""Data sets of the catalog in miniature: counted, named, framed, and refused in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.benchmarks.entry import Entry, Texts
from data.benchmarks.finding import labels_of
from data.benchmarks.opening import Benchmark, open_benchmark
from data.benchmarks.registry import entry
from data.images import choose_images
from data.shards import write_shards
from tests.data.layouts import miniatures as small

CIFAR10 = (Path(__file__).parents[3] / "data/benchmarks/names/cifar10.txt").read_text().split()
TEMPLATES = [f"template {i} of {{c}}" for i in range(18)]


def shrunk(name: str, count: int | None, **changes: object) -> Entry:
    """An entry that expects as few images as a miniature has."""
    known = entry(name)
    counts = {known.split: count} if count is not None else known.counts
    return replace(known, counts=counts, **changes)  # pyright: ignore[reportArgumentType]


def clip_benchmark(
    root: Path,
    names: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    *,
    side: int = 32,
    labels: Sequence[int] = (0, 1, 2, 3),
) -> Path:
    """A data set in clip_benchmark's layout, as the hub has it."""
    import io

    from PIL import Image

    def sample(i: int, y: int) -> dict[str, object]:
        file = io.BytesIO()
        Image.fromarray(small.pixels(1, side, seed=i)[0]).save(file, "WEBP", lossless=True)
        return {"__key__": f"s{i:07d}", "webp": file.getvalue(), "cls": str(y)}

    write_shards(root / "test", [sample(i, y) for i, y in enumerate(labels)], per_shard=2)
    small.lines(root / "classnames.txt", names)
    small.lines(root / "zeroshot_classification_templates.txt", templates)
    return root


def opened(known: Entry, where: Path, **settings: object) -> Benchmark:
    return open_benchmark(known, str(where), image_size=16, **settings)  # pyright: ignore[reportArgumentType]


def test_shards_give_names_templates_and_native_pictures(tmp_path: Path) -> None:
    root = clip_benchmark(tmp_path / "c", CIFAR10)
    found = opened(shrunk("fare/cifar10", 4), root)
    assert (found.names, len(found.templates), found.resolution, found.native) == (CIFAR10, 18, 32, True)
    assert found.templates[0] == "template 0 of {}"
    assert np.allclose(found.source[1].x.numpy().transpose(1, 2, 0), small.pixels(1, 32, seed=1)[0] / 255)
    assert (found.qualifiers, found.notes) == ([], [])
    record = found.record()
    assert (record["dataset"], record["count"], record["layout"]) == ("fare/cifar10", 4, "shards")
    assert len(found.prompts) == 12


@pytest.mark.parametrize("layout", ["cifar10_binary", "cifar10_python"])
def test_the_same_prompts_and_pictures_whatever_the_layout(layout: str, tmp_path: Path) -> None:
    x, y = small.pixels(4, 32), [0, 9, 2, 2]
    getattr(small, layout)(tmp_path, x, y, CIFAR10)
    found = opened(shrunk("ttc/cifar10", 4), tmp_path)
    assert (found.names, found.templates, found.resolution) == (CIFAR10, ["This is a photo of a {}."], 16)
    assert [found.source[i].y for i in range(4)] == y
    assert labels_of(choose_images(found.source, 2, shuffle=True)) == [
        sample.y for sample in map(choose_images(found.source, 2, shuffle=True).__getitem__, range(2))
    ]
    assert found.prompts == opened(shrunk("ttc/cifar10", 4), tmp_path).prompts


def test_names_of_another_layout_than_the_protocols_are_told_in_every_row(tmp_path: Path) -> None:
    small.cifar10_binary(tmp_path, small.pixels(4, 32), [0, 1, 2, 3], CIFAR10)
    small.lines(tmp_path / "zeroshot_classification_templates.txt", TEMPLATES)
    found = opened(shrunk("fare/cifar10", 4), tmp_path)
    assert found.qualifiers == ["class names of CIFAR-10, binary, not those of clip_benchmark's file"]
    small.lines(tmp_path / "classnames.txt", CIFAR10)
    assert opened(shrunk("fare/cifar10", 4), tmp_path).qualifiers == []


def test_a_wrong_count_is_one_line_and_may_be_allowed(tmp_path: Path) -> None:
    small.cifar10_binary(tmp_path, small.pixels(4, 32), [0, 1, 2, 3], CIFAR10)
    with pytest.raises(ValueError, match=r"holds 4 images of split test where ttc/cifar10 has 10,000; .*allow_count"):
        opened(entry("ttc/cifar10"), tmp_path)
    found = opened(entry("ttc/cifar10"), tmp_path, allow_mismatch=True)
    assert found.qualifiers == ["4 images of split test where ttc/cifar10 has 10,000"]


def test_a_wrong_number_of_classes_templates_or_names_is_refused(tmp_path: Path) -> None:
    root = clip_benchmark(tmp_path / "c", CIFAR10[:9])
    with pytest.raises(ValueError, match="has 9 class names where 10 belong"):
        opened(shrunk("fare/cifar10", 4), root)
    small.lines(root / "classnames.txt", CIFAR10)
    small.lines(root / "zeroshot_classification_templates.txt", TEMPLATES[:17])
    with pytest.raises(ValueError, match="has 17 templates where 18 belong"):
        opened(shrunk("fare/cifar10", 4), root)
    (root / "zeroshot_classification_templates.txt").unlink()
    with pytest.raises(ValueError, match=r"takes its templates \(18\) from the data set, and .* has none; put a zero"):
        opened(shrunk("fare/cifar10", 4), root)
    small.class_folders(tmp_path / "eurosat/2750", ["Forest", "River"])
    with pytest.raises(ValueError, match="2 classes of split all where ttc/eurosat has 10"):
        opened(shrunk("ttc/eurosat", 4), tmp_path)


def test_a_missing_nshards_is_an_error(tmp_path: Path) -> None:
    root = clip_benchmark(tmp_path / "c", CIFAR10)
    (root / "test/nshards.txt").unlink()
    with pytest.raises(ValueError, match=r"no '.*nshards\.txt'; a folder of shards holds"):
        opened(shrunk("fare/cifar10", 4), root)


def test_pictures_of_another_size_are_no_native_data_set(tmp_path: Path) -> None:
    root = clip_benchmark(tmp_path / "c", CIFAR10, side=48)
    with pytest.raises(ValueError, match="attacked at its own 32 x 32 pixels, and .* 48 x 48"):
        opened(shrunk("fare/cifar10", 4), root)


def test_a_place_that_holds_something_else_is_told_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder '.*nowhere'; fare/cifar10 needs wds/vtab/cifar10"):
        opened(entry("fare/cifar10"), tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not laid out as ttc/dtd is: it needs dtd with images and labels"):
        opened(entry("ttc/dtd"), tmp_path)
    with pytest.raises(ValueError, match="NIGHTS.* is no set of pictures with labels; its task is 2afc"):
        opened(entry("nights"), tmp_path)


def test_duplicate_prompts_are_refused_unless_the_entry_allows_them_and_then_counted(tmp_path: Path) -> None:
    root = tmp_path / "caltech101/101_ObjectCategories"
    small.class_folders(root, ["BACKGROUND_Google", "Faces", "Faces_easy", "anchor"], each=3)
    known = shrunk("ttc/caltech101", 9, classes=3)
    found = opened(known, tmp_path)
    assert found.names == ["person", "person", "anchor"]
    assert found.source.classes == ["Faces", "Faces_easy", "anchor"]
    (note,) = found.notes
    assert "'person' for classes 0, 1. 6 images (66.7 %)" in note and "3 (33.3 %) are of a class that comes" in note
    with pytest.raises(ValueError, match="classes of ttc/caltech101 share a prompt: 'person' for classes 0, 1"):
        opened(replace(known, ties=False), tmp_path)


def test_shards_may_hold_equal_names_where_the_entry_allows_it(tmp_path: Path) -> None:
    root = clip_benchmark(tmp_path / "c", ["missile", "pen", "missile"], ["a {c}"], labels=(0, 1, 2, 2))
    known = shrunk(
        "fare/imagenet_sketch", 4, classes=3, names=Texts("dataset", count=3), templates=Texts("dataset", count=1)
    )
    found = opened(known, root)
    assert found.names == ["missile", "pen", "missile"]
    assert "3 images (75.0 %)" in found.notes[0]
    assert labels_of(found.source) == [0, 1, 2, 2]
    with pytest.raises(ValueError, match="hold duplicates: 'missile' on lines 1, 3"):
        opened(replace(known, ties=False), root)


def synsets(count: int) -> list[str]:
    return [f"n{i:08d}" for i in range(count)]


def imagenet(root: Path, known: Entry, classes: int = 4) -> Entry:
    """ImageNet's validation folder in miniature, with the entry that expects it."""
    from data.benchmarks.texts import digest

    small.class_folders(root / "val", synsets(classes))
    changes = {"counts": {"val": 2 * classes}, "classes": classes, "folders": digest(synsets(classes))}
    return replace(known, **changes, names=Texts("package", "x"), templates=Texts("listed", lines=("a {}",)))


def published(_: str) -> list[str]:
    return ["tench", "missile", "hen", "missile"]


def test_class_folders_fix_the_order_of_published_names(tmp_path: Path) -> None:
    known = imagenet(tmp_path, entry("robustbench/imagenet"))
    found = opened(known, tmp_path, published=published)
    assert found.names == published("")
    assert found.source.keys[0] == "n00000000/n00000000_0.JPEG"
    (tmp_path / "val/n00000003").rename(tmp_path / "val/n00000009")
    with pytest.raises(
        ValueError, match="4 class folders of .* are not the 4 of robustbench/imagenet.*labels would be"
    ):
        opened(known, tmp_path, published=published)
    with pytest.raises(ValueError, match="the class names of x of this installation are not those that were meant"):
        opened(replace(known, folders="", names=Texts("package", "x", "0" * 64)), tmp_path, published=published)


def test_a_class_that_a_protocol_leaves_out_goes_with_its_images_and_labels_close_up(tmp_path: Path) -> None:
    known = imagenet(tmp_path, replace(entry("ttc/imagenet"), drop=("n00000001",)))
    known = replace(known, counts={"val": 6}, classes=3)
    found = opened(known, tmp_path, published=lambda _: ["tench", "hen", "pen"])
    assert [found.source[i].y for i in range(6)] == [0, 0, 1, 1, 2, 2]
    assert all("n00000001" not in key for key in found.source.keys)
    assert found.qualifiers == ["class names of open_clip; the paper's 999 cleaned names are not known"]
    with pytest.raises(ValueError, match="leaves out class 'n9', which the data does not have"):
        opened(replace(known, drop=("n9",)), tmp_path, published=published)


def test_names_that_nobody_may_ship_are_asked_for(tmp_path: Path) -> None:
    small.class_folders(tmp_path / "val_", ["n1", "n2"])
    known = shrunk("ttc/tiny_imagenet", 4, classes=2)
    with pytest.raises(ValueError, match="takes its class names from the data set, and .* has none; put a classnames"):
        opened(known, tmp_path)
    small.lines(tmp_path / "classnames.txt", ["goldfish", "newt"])
    assert opened(known, tmp_path).names == ["goldfish", "newt"]


def test_templates_of_the_recipe_come_first_and_are_told(tmp_path: Path) -> None:
    small.cifar10_binary(tmp_path, small.pixels(4, 32), [0, 1, 2, 3], CIFAR10)
    found = opened(shrunk("ttc/cifar10", 4), tmp_path, templates=["one {}"])
    assert found.templates == ["one {}"]
    assert found.qualifiers == ["templates of the recipe, not those of ttc/cifar10"]
    assert found.prompts != opened(shrunk("ttc/cifar10", 4), tmp_path).prompts


def test_raw_names_of_cars_and_aircraft_are_renamed(tmp_path: Path) -> None:
    small.cars(tmp_path, ["Audi S4 Sedan 2012", "Audi S4 Sedan 2007"], [("00001.jpg", 1), ("00002.jpg", 2)])
    found = opened(shrunk("ttc/cars", 2, classes=2), tmp_path)
    assert found.names == ["Audi S4 Sedan", "Audi S4 Sedan"]
    assert "1 (50.0 %) are of a class that comes second" in found.notes[0]
