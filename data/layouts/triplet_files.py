"""Layouts of triplets: NIGHTS, BAPPS, a table of one's own, and the embedded ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data.layouts.listing import FilePictures
from data.sample import MARGIN, digits
from data.text_files import read_text
from data.triplets import TripletFiles, Triplets

NIGHTS_VOTES = 6
NIGHTS_TESTS = ("test_imagenet", "test_no_imagenet")
BAPPS_KINDS = ("cnn", "color", "deblur", "frameinterp", "superres", "traditional")
EMBEDDED = "digit-triplets"
SPLITS = ("train", "val", "test")
_JUDGEMENT_BYTES = 4096


def open_triplets(place: str, split: str) -> Triplets:
    """The triplets of a folder in one of the layouts, or the embedded ones.

    Args:
        place: ``digit-triplets``; or a folder: NIGHTS (``data.csv``), BAPPS (``val/<kind>/{ref,p0,p1,judge}``), or
            one's own (``triplets.csv`` with the columns reference, left, right, label).
        split: ``test``, ``val`` or ``train``; of NIGHTS also one of its two test splits.

    Raises:
        ValueError: nothing there, or it is faulty; one line.
    """
    if place == EMBEDDED:
        return embedded(split)
    root = Path(place)
    if not root.is_dir():
        raise ValueError(f"no folder of triplets at '{place}'; name one, or '{EMBEDDED}' for the embedded ones")
    if (root / "data.csv").is_file():
        return nights(root, split)
    if (root / "triplets.csv").is_file():
        return own_table(root)
    if any((folder / kind / "judge").is_dir() for kind in BAPPS_KINDS for folder in (root, root / split, root / "val")):
        return bapps(root, split)
    raise ValueError(f"'{place}' holds no data.csv (NIGHTS), no triplets.csv and no judged folders (BAPPS)")


def nights(root: Path, split: str) -> Triplets:
    """NIGHTS: the triplets of a split on which six people or more agree; ``test`` is both test splits.

    Raises:
        ValueError: the table lacks a column, or names a picture that is not there.
    """
    wanted = NIGHTS_TESTS if split == "test" else (split,)
    rows = _table(root / "data.csv", ("right_vote", "votes", "ref_path", "left_path", "right_path", "split"))
    known = sorted({_part(row) for row in rows})
    if not set(wanted) <= set(known):
        raise ValueError(f"'{root / 'data.csv'}' has no split {split!r}; it has {', '.join(known)}")
    kept = [(n, row) for n, row in enumerate(rows) if _part(row) in wanted and _number(row, "votes", n) >= NIGHTS_VOTES]
    paths = [(row["ref_path"], row["left_path"], row["right_path"]) for _, row in kept]
    missing = _missing(root, [name for names in paths for name in names])
    if missing:
        raise ValueError(f"'{root}' lacks {len(missing):,} of {3 * len(paths):,} pictures, such as {missing[0]}")
    return Triplets(
        keys=[str(row.get("id") or n) for n, row in kept],
        labels=[int(_number(row, "right_vote", n) > 0.5) for n, row in kept],
        picture=TripletFiles(paths, _inside(root)),
        groups=[_part(row) for _, row in kept],
        layout=f"NIGHTS with data.csv, {NIGHTS_VOTES} votes or more",
    )


def _missing(root: Path, names: Sequence[str]) -> list[str]:
    """The pictures that are not there, by one look into each folder; what lies outside is refused when it is read."""
    whole = root.resolve()
    folders = {parent: whole / parent for parent in {Path(name).parent for name in names}}
    inside = {parent: f for parent, f in folders.items() if f.resolve().is_relative_to(whole)}
    there = {parent: {p.name for p in f.iterdir()} if f.is_dir() else set() for parent, f in inside.items()}
    return [name for name in names if Path(name).name not in there.get(Path(name).parent, {Path(name).name})]


def _part(row: dict[str, str]) -> str:
    """The split of a row of NIGHTS: its test is told apart by whether the pictures show ImageNet's classes."""
    if row["split"] != "test":
        return row["split"]
    return "test_imagenet" if row.get("is_imagenet", "").strip().lower() in ("true", "1") else "test_no_imagenet"


def bapps(root: Path, split: str) -> Triplets:
    """BAPPS: ``<split>/<kind>/{ref,p0,p1}/N.png`` and ``judge/N.npy``, the fraction that preferred p1.

    A fraction of one half is labelled left, as in the released binary score.

    Raises:
        ValueError: a picture or a judgement is missing, or is no fraction.
    """
    base = next((folder for folder in (root / split, root / "val", root) if _kinds(folder)), root)
    keys, paths, soft, groups = [], [], [], []
    for kind in _kinds(base):
        for judged in sorted((base / kind / "judge").glob("*.npy")):
            names = [f"{kind}/{part}/{judged.stem}.png" for part in ("ref", "p0", "p1")]
            missing = [name for name in names if not (base / name).is_file()]
            if missing:
                raise ValueError(f"'{base}' lacks {missing[0]}, which {kind}/judge/{judged.name} is about")
            keys.append(f"{kind}/{judged.stem}")
            paths.append((names[0], names[1], names[2]))
            soft.append(_fraction(judged))
            groups.append(kind)
    if not keys:
        raise ValueError(f"'{base}' holds no judgement: no judge/*.npy in any of {', '.join(BAPPS_KINDS)}")
    labels = [int(p > 0.5) for p in soft]
    return Triplets(keys, labels, TripletFiles(paths, _inside(base)), soft, groups, "BAPPS, judged two by two")


def own_table(root: Path) -> Triplets:
    """``triplets.csv`` with a header: reference, left, right (paths within the folder), label (left or right).

    A column ``soft`` may say the fraction that preferred the right one.

    Raises:
        ValueError: a column or a picture is missing, or a label is neither.
    """
    rows = _table(root / "triplets.csv", ("reference", "left", "right", "label"))
    labels = []
    for number, row in enumerate(rows):
        if row["label"] not in ("left", "right"):
            raise ValueError(
                f"'{root / 'triplets.csv'}' line {number + 2}: label {row['label']!r} is not left or right"
            )
        labels.append(int(row["label"] == "right"))
    soft = [_number(row, "soft", n) for n, row in enumerate(rows)] if rows and "soft" in rows[0] else []
    paths = [(row["reference"], row["left"], row["right"]) for row in rows]
    for number, path in enumerate(name for names in paths for name in names):
        if not (root / path).is_file():
            raise ValueError(f"'{root / 'triplets.csv'}' line {number // 3 + 2} names {path}, which is not there")
    keys = [f"{number:05d}" for number in range(len(rows))]
    return Triplets(keys, labels, TripletFiles(paths, _inside(root)), soft, (), "triplets.csv")


def embedded(split: str) -> Triplets:
    """Digits with a lightly and a strongly changed copy; which one lies left is drawn from the digit's name.

    The light change moves a digit by a pixel and fades it a little; the strong one turns it, moves it farther and fades
    it more.  Nobody was asked: the answer is known because the second change contains the first.

    Raises:
        ValueError: another split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of {EMBEDDED}; choose one of: {', '.join(SPLITS)}")
    source = digits({"val": "tune"}.get(split, split))
    seeds = [int.from_bytes(key.encode()[-4:], "big") for key in source.keys]
    labels = [(seed * 2654435761 >> 16) & 1 for seed in seeds]

    def picture(index: int, which: int) -> Image.Image:
        original = Image.fromarray(source.pixels[index])
        if which == 0:
            return original
        return _changed(original, seeds[index], strongly=which - 1 != labels[index])

    keys = [key.replace("digits", "triplet") for key in source.keys]
    return Triplets(keys, labels, picture, layout="embedded digits, lightly and strongly changed")


def _changed(image: Image.Image, seed: int, *, strongly: bool) -> Image.Image:
    """A digit moved (and, strongly, turned) and faded, with its paper's grey around it."""
    generator = np.random.default_rng([seed, 2])
    turn, shift = generator.choice([-1, 1], size=1)[0], generator.choice([-1, 1], size=2)
    paper = round(255 * MARGIN)
    angle, far, fade = (14.0 * turn, 2, 0.25) if strongly else (0.0, 1, 0.1)
    moved = image.rotate(
        angle,
        Image.Resampling.BICUBIC,
        translate=(int(far * shift[0]), int(far * shift[1])),
        fillcolor=(paper, paper, paper),
    )
    return Image.blend(moved, Image.new("RGB", image.size, (paper, paper, paper)), fade)


def _kinds(folder: Path) -> list[str]:
    return [kind for kind in BAPPS_KINDS if (folder / kind / "judge").is_dir()]


def _fraction(path: Path) -> float:
    try:
        if path.stat().st_size > _JUDGEMENT_BYTES:
            raise ValueError("too large")
        value = np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False)
        numbers = [float(number) for number in value.reshape(-1)[:2]] if value.dtype.kind in "fiu" else []
    except (OSError, ValueError, EOFError, AttributeError, MemoryError, OverflowError) as error:
        raise ValueError(f"'{path}' is no array of one number") from error
    if len(numbers) != 1 or not 0 <= numbers[0] <= 1:
        raise ValueError(f"'{path}' holds {value.size} values; a judgement is one fraction in [0, 1]")
    return numbers[0]


def _table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        text = read_text(path)
        delimiter = next((mark for mark in ",;\t" if mark in text.partition("\n")[0]), ",")  # spreadsheets differ
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (OSError, csv.Error) as error:
        raise ValueError(f"'{path}' cannot be read as a table ({type(error).__name__})") from error
    lacking = [name for name in columns if not rows or name not in rows[0]]
    if lacking:
        raise ValueError(f"'{path}' has no column {', '.join(lacking)}" if rows else f"'{path}' has no row")
    short = next((n for n, row in enumerate(rows) if None in row or None in row.values()), None)
    if short is not None:
        raise ValueError(f"line {short + 2} of '{path}' has more or fewer fields than its first one")
    return rows


def _number(row: dict[str, str], column: str, number: int) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError) as error:
        raise ValueError(f"line {number + 2} of the table has {row[column]!r} for {column}, not a number") from error


def _inside(root: Path) -> Callable[[str], Image.Image]:
    """Reads a picture by its path within a folder, and none outside it."""
    whole = root.resolve()

    def read(path: str) -> Image.Image:
        found = (whole / path).resolve()
        if not found.is_relative_to(whole):
            raise ValueError(f"'{root}' names {path}, which lies outside it")
        return FilePictures([found])(0)

    return read
