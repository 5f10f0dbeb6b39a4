"""Layouts of odd-one-out triplets: THINGS, and the embedded digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.home import at_home
from data.layouts.listing import FilePictures, text_lines
from data.sample import digits
from data.transforms import IMAGE_EXTENSIONS
from data.triplets import Triplets

ODD_CLASSES = ("first", "second", "third")
EMBEDDED_ODD = "digit-odd-ones"
SPLIT_FILES = {
    "train": ("train.txt", "trainset.txt"),
    "val": ("val.txt", "validationset.txt"),
    "test": ("test.txt", "testset1.txt"),
}
_MOST_BYTES = 512 * 1024**2


def open_odd_one_out(place: str, split: str) -> Triplets:
    """Triplets of pictures of which people find one the odd one, or the embedded digits.

    Args:
        place: ``digit-odd-ones``; or a folder as THINGS has it: ``images/<concept>/`` of which the first picture counts
            (or one picture ``images/<concept>.<ending>``), ``unique_id.txt`` with the concepts in order (sorted names
            where it is missing), and for each split a table such as ``testset1.txt``, whose lines hold three numbers of
            concepts, from 0, the odd one last.
        split: ``train``, ``val`` or ``test``, or the name of a table without ``.txt``.

    Raises:
        ValueError: nothing there, or it is faulty; one line.
    """
    if place == EMBEDDED_ODD:
        return _embedded(split)
    root = at_home(place)
    if not root.is_dir():
        raise ValueError(f"no folder of triplets at '{place}'; name one, or '{EMBEDDED_ODD}' for the embedded ones")
    names = SPLIT_FILES.get(split, (f"{Path(split).name}.txt",))
    table = next((root / name for name in names if (root / name).is_file()), None)
    if table is None:
        raise ValueError(f"'{place}' has no table of triplets for {split}: no {' and no '.join(names)}")
    pictures = _concepts(root)
    rows = _rows(table, len(pictures))
    keys = [f"{table.stem}-{number:07d}" for number in range(len(rows))]
    return _turned(keys, rows, FilePictures(pictures), "odd-one-out table, the odd one last")


def _turned(keys: Sequence[str], rows: np.ndarray, picture: Callable[[int], Image.Image], layout: str) -> Triplets:
    """The triplets with the odd picture, which is the last of each row, at a place that the row's number draws."""
    labels = [(number * 2654435761 >> 16) % 3 for number in range(len(rows))]
    return Triplets(keys, labels, _Turned(rows, labels, picture), layout=layout)


@dataclass(frozen=True, eq=False)
class _Turned:
    rows: np.ndarray
    labels: Sequence[int]
    picture: Callable[[int], Image.Image]

    def __call__(self, index: int, which: int) -> Image.Image:
        """One picture of a triplet."""
        return self.picture(int(self.rows[index, (which - self.labels[index] + 2) % 3]))


def _concepts(root: Path) -> list[Path]:
    """The first picture of every concept, in order."""
    folder = root / "images"
    if not folder.is_dir():
        raise ValueError(f"'{root}' has no folder images with a picture or a folder for each concept")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        pictures = [p for p in inside if p.suffix[1:].lower() in IMAGE_EXTENSIONS]
        if pictures:
            found.setdefault(path.name if path.is_dir() else path.stem, pictures)
    listed = root / "unique_id.txt"
    names = sorted(found)
    if listed.is_file():
        names = text_lines(listed)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"'{folder}' lacks {len(missing):,} of {len(names):,} concepts, such as {missing[0]}")
    return [found[name][0] for name in names]


def _rows(path: Path, concepts: int) -> np.ndarray:
    """[N, 3] numbers of concepts."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"'{path}' has {path.stat().st_size:,} bytes; a table of triplets has {_MOST_BYTES:,} at most")
    lines = text_lines(path)
    if not lines:
        raise ValueError(f"'{path}' holds no triplet")
    try:
        numbers = np.array([line.replace(",", " ").split() for line in lines], dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"'{path}' is no table of numbers with three in each line") from error
    if numbers.shape[1:] != (3,) or not (np.isfinite(numbers).all() and (numbers == numbers.round()).all()):
        raise ValueError(f"'{path}' is no table of whole numbers with three in each line")
    bad = ((numbers < 0) | (numbers >= concepts)).any(axis=1) | (np.diff(np.sort(numbers, axis=1)) == 0).any(axis=1)
    if bad.any():
        line = int(bad.argmax())
        raise ValueError(f"'{path}' triplet {line + 1} is {lines[line]!r}: not three different ones of {concepts:,}")
    return numbers.astype(np.int64)


def _embedded(split: str) -> Triplets:
    """Digits: two of one class and one of another, drawn by the number of the triplet."""
    if split not in SPLIT_FILES:
        raise ValueError(f"unknown split {split!r} of {EMBEDDED_ODD}; choose one of: {', '.join(SPLIT_FILES)}")
    source = digits({"val": "tune"}.get(split, split))
    labels, rows = np.asarray(source.labels), []
    for number in range(len(labels)):
        generator = np.random.default_rng([number, 5])
        alike = np.flatnonzero((labels == labels[number]) & (np.arange(len(labels)) != number))
        odd = np.flatnonzero(labels != labels[number])
        rows.append([number, int(generator.choice(alike)), int(generator.choice(odd))])
    keys = [key.replace("digits", "odd-one") for key in source.keys]
    layout = "embedded digits, two of one class and one of another"
    return _turned(keys, np.array(rows), lambda index: Image.fromarray(source.pixels[index]), layout)
