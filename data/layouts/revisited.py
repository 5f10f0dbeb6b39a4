"""Revisited Oxford and Paris (arXiv:1803.11285): 70 queries cut out by boxes, and what is relevant to each of them."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.framing import Framing
from data.galleries import Relevance
from data.home import at_home
from data.layouts.listing import FilePictures, ListedImages, Listing
from data.layouts.plain_pickle import read_plain
from data.source import ImageSource
from data.text_files import read_text
from data.transforms import DecodeError

QUERIES = 70
_PARTS = ("easy", "hard", "junk")
_SIDES = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}


class RevisitedRelevance(Relevance):
    """Medium: easy and hard pictures are relevant, junk does not count.  Hard: easy ones do not count either.

    Args:
        parts: by key of a query, places in the gallery of what is ``easy``, ``hard`` and ``junk``.
        size: of the gallery.
    """

    difficulties = ("medium", "hard")

    def __init__(self, parts: dict[str, dict[str, np.ndarray]], size: int) -> None:
        self.parts, self.size = parts, size

    def of(self, key: str, difficulty: str) -> tuple[np.ndarray, np.ndarray]:
        """Places of what is relevant and of what is ignored."""
        wanted, ignored = (np.concatenate([self.parts[key][part] for part in side]) for side in _SIDES[difficulty])
        return wanted, ignored


@dataclass(frozen=True, eq=False)
class Revisited:
    """What was opened: queries, gallery, and what is relevant."""

    queries: ImageSource
    gallery: ImageSource
    relevance: RevisitedRelevance


def open_revisited(place: str, framing: int | Framing) -> Revisited:
    """ROxford or RParis: ``gnd_<name>.pkl`` or ``.json`` beside the folder ``jpg``.

    The pickle is read without running anything that it names.

    Args:
        place: the folder.
        framing: how a picture becomes a square, or its side in pixels; queries are cut out by their boxes first.

    Raises:
        ValueError: a file is missing, or is not what it should be.
    """
    root = at_home(place)
    files = sorted([*root.glob("gnd_*.json"), *root.glob("gnd_*.pkl")])
    if not files:
        raise ValueError(f"'{place}' holds no gnd_*.pkl and no gnd_*.json, which say what is relevant to the queries")
    said = _annotations(files[0])
    gallery = [_text(name) for name in said["imlist"]]
    queries = [_text(name) for name in said["qimlist"]]
    if len(queries) != QUERIES or len(said["gnd"]) != QUERIES:
        raise ValueError(
            f"'{files[0]}' has {len(queries)} queries and {len(said['gnd'])} answers, not {QUERIES} of both"
        )
    parts = {key: _parts(answer, len(gallery), f"'{files[0]}', {key}") for key, answer in _paired(queries, said["gnd"])}
    boxes = [_box(answer, f"'{files[0]}', {key}") for key, answer in _paired(queries, said["gnd"])]
    folder = root / "jpg" if (root / "jpg").is_dir() else root
    whole = FilePictures(_paths(folder, gallery))
    cut = _CutOut(FilePictures(_paths(folder, queries)), boxes)
    return Revisited(
        _images(queries, cut, framing, f"queries of {root.name}"),
        _images(gallery, whole, framing, root.name),
        RevisitedRelevance(parts, len(gallery)),
    )


@dataclass(frozen=True, eq=False)
class _CutOut:
    """Pictures cut out by boxes (left, upper, right, lower) in pixels."""

    pictures: Callable[[int], Image.Image]
    boxes: Sequence[tuple[float, float, float, float]]

    def __call__(self, index: int) -> Image.Image:
        left, upper, right, lower = self.boxes[index]
        picture = self.pictures(index)
        if (right - left) * (lower - upper) > 4 * picture.width * picture.height:  # it would be filled up with black
            raise DecodeError("too many pixels", f"cut out of {picture.width} x {picture.height}")
        return picture.crop((round(left), round(upper), round(right), round(lower)))


def _images(keys: list[str], picture: Callable[[int], Image.Image], framing: int | Framing, name: str) -> ListedImages:
    listing = Listing(keys, [0] * len(keys), ["picture"], picture, "revisited")
    return ListedImages(listing, Framing.of(framing), name=name)


def _annotations(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(read_text(path)) if path.suffix == ".json" else read_plain(path)
    except (OSError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"'{path}' is no JSON that can be read; fetch it again") from error
    said = {_text(key): value for key, value in said.items()} if isinstance(said, dict) else {}
    lacking = [name for name in ("imlist", "qimlist", "gnd") if not isinstance(said.get(name), list)]
    if lacking:
        raise ValueError(f"'{path}' has no list {lacking[0]}; it is no list of answers of ROxford or RParis")
    return said


def _paired(queries: list[str], answers: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    if any(not isinstance(said, dict) for said in answers):
        raise ValueError("the answers of ROxford or RParis are tables; fetch them again")
    return [
        (key, {_text(name): value for name, value in said.items()}) for key, said in zip(queries, answers, strict=True)
    ]


def _parts(answer: dict[str, Any], size: int, where: str) -> dict[str, np.ndarray]:
    found = {}
    for part in _PARTS:
        try:
            said = answer.get(part, [])  # of lists within lists, a few bytes would be numbers without end
            flat = said.ravel() if isinstance(said, np.ndarray) else said
            places = np.asarray([operator.index(place) for place in flat], dtype=np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{where}: {part} is no list of places") from error
        if len(places) and not 0 <= places.min() <= places.max() < size:
            raise ValueError(f"{where}: {part} names picture {places.max()} of {size}")
        found[part] = places
    return found


def _box(answer: dict[str, Any], where: str) -> tuple[float, float, float, float]:
    try:
        left, upper, right, lower = (float(value) for value in answer["bbx"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: bbx is no box of four numbers") from error
    if not (0 <= left < right and 0 <= upper < lower):
        raise ValueError(
            f"{where}: bbx {left:g}, {upper:g}, {right:g}, {lower:g} is no box of left, upper, right, lower"
        )
    return left, upper, right, lower


def _paths(folder: Path, names: Sequence[str]) -> list[Path]:
    paths = [folder / f"{name}.jpg" for name in names]
    strange = [name for name in names if ".." in Path(name).parts or Path(name).is_absolute()]
    if strange:
        raise ValueError(f"the answers name {strange[0]!r}, which lies outside '{folder}'")
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"'{folder}' lacks {len(missing):,} of {len(paths):,} pictures, such as {missing[0].name}")
    return paths


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
