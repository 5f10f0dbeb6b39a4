"""Pictures in one heap and text files that say which of them are in a split, and what they show."""

from __future__ import annotations

from pathlib import Path

from data.layouts.listing import FilePictures, Listing, need, place, text_lines


def dtd(root: Path, split: str) -> Listing | None:
    """DTD: ``labels/<split>1.txt`` names ``<class>/<picture>`` of the first partition."""
    folder = place(root, "dtd/images")
    if folder is None or split not in ("train", "val", "test"):
        return None
    lines = sorted(text_lines(need(folder.parent / "labels" / f"{split}1.txt")))
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return _listed(folder, lines, [line.partition("/")[0] for line in lines], classes, "DTD, partition 1")


def pets(root: Path, split: str) -> Listing | None:
    """Oxford-IIIT Pet: ``annotations/test.txt`` (or ``trainval.txt``) with lines such as ``Abyssinian_201 1 1 1``.

    Class names are those in the names of the pictures, by the number in the second column.
    """
    folder = place(root, "oxford-iiit-pet/images") or (root / "images" if (root / "annotations").is_dir() else None)
    if folder is None or not folder.is_dir() or split not in ("train", "test"):
        return None
    name = {"train": "trainval.txt", "test": "test.txt"}[split]
    lines = sorted(line for line in text_lines(need(folder.parent / "annotations" / name)) if line[0] != "#")
    rows = [(line.split()[0], int(line.split()[1])) for line in lines]
    by_number = {number: stem.rpartition("_")[0].replace("_", " ") for stem, number in rows}
    classes = [by_number[number] for number in sorted(by_number)]
    labels = [by_number[number] for _, number in rows]
    return _listed(folder, [f"{stem}.jpg" for stem, _ in rows], labels, classes, "Oxford-IIIT Pet lists")


def aircraft(root: Path, split: str) -> Listing | None:
    """FGVC Aircraft by variant: ``data/images_variant_<split>.txt`` with lines such as ``0062765 707-320``."""
    folder = place(root, "fgvc-aircraft-2013b/data/images")
    if folder is None:
        return None
    listed = folder.parent / f"images_variant_{split}.txt"
    if not listed.is_file():
        return None
    rows = [line.partition(" ")[::2] for line in sorted(text_lines(listed))]
    classes = text_lines(need(folder.parent / "variants.txt"))
    keys = [f"{number}.jpg" for number, _ in rows]
    return _listed(folder, keys, [name.strip() for _, name in rows], classes, "FGVC Aircraft variants")


def food101(root: Path, split: str) -> Listing | None:
    """Food-101: ``meta/<split>.txt`` with lines such as ``apple_pie/1011328``."""
    folder = place(root, "food-101/images")
    if folder is None or split not in ("train", "test"):
        return None
    lines = sorted(text_lines(need(folder.parent / "meta" / f"{split}.txt")))
    classes = sorted(text_lines(need(folder.parent / "meta/classes.txt")))
    labels = [line.partition("/")[0] for line in lines]
    return _listed(folder, [f"{line}.jpg" for line in lines], labels, classes, "Food-101 lists")


def _listed(folder: Path, keys: list[str], names: list[str], classes: list[str], layout: str) -> Listing:
    number = {name: i for i, name in enumerate(classes)}
    for key, name in zip(keys, names, strict=True):
        if name not in number:
            raise ValueError(f"{layout}: '{key}' of '{folder}' is of class '{name}', which is none of {len(classes)}")
        if ".." in Path(key).parts or Path(key).is_absolute():
            raise ValueError(f"{layout}: '{key}' leads out of '{folder}'")
    return Listing(
        keys, [number[name] for name in names], classes, FilePictures([folder / key for key in keys]), layout
    )
