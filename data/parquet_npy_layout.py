"""Which files of a folder in the layout ``parquet_npy`` belong together.

    img_emb/img_emb_0000.npy        [N, D] float        folder also: image_emb, img_embs, image_embeddings
    text_emb/text_emb_0000.npy      [N, D], optional    folder also: txt_emb, text_embs, text_embeddings
    metadata/metadata_0000.parquet  N rows              folder also: meta, <anything>-metadata

Files that belong together end in the same number.  The caption is in column ``caption``, ``TEXT`` or ``text``; the name
of a sample in ``key``, ``image_path`` or ``url``, or else it is the number of the file and of the row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.npy import map_npy
from data.parquet import check_installed, column_names

FOLDERS = {
    "image": ("img_emb", "image_emb", "img_embs", "image_embeddings"),
    "text": ("text_emb", "txt_emb", "text_embs", "text_embeddings"),
    "metadata": ("metadata", "meta", "*-metadata"),
}
CAPTION_COLUMNS = ("caption", "TEXT", "text")
KEY_COLUMNS = ("key", "image_path", "url")
_SUFFIX = {"image": ".npy", "text": ".npy", "metadata": ".parquet"}
_NUMBER = re.compile(r"(\d+)$")


@dataclass(frozen=True)
class Part:
    """The files of the same N samples.

    Attributes:
        name: the number that they share, as it is written.
        image, text, metadata: the files; ``text`` may be absent.
        rows: N.
        dim: D.
        caption_column, key_column: of ``metadata``; None where it has no names.
    """

    name: str
    image: Path
    text: Path | None
    metadata: Path
    rows: int
    dim: int
    caption_column: str
    key_column: str | None


def is_parquet_npy(folder: Path) -> bool:
    """Whether the folder holds a folder of embeddings that goes by one of the known names."""
    return folder.is_dir() and any((folder / name).is_dir() for name in (*FOLDERS["image"], *FOLDERS["text"]))


def find_parts(folder: Path) -> tuple[list[Part], list[str]]:
    """The parts of a folder in the order of their numbers, and all faults that keep files from being one.

    Raises:
        ValueError: pyarrow is missing.
    """
    check_installed(folder)
    faults: list[str] = []
    files = {field: _numbered(folder, field, faults) for field in FOLDERS}
    if not files["text"]:
        del files["text"]
    parts: list[Part] = []
    for number in sorted(set().union(*files.values())):
        missing = [field for field in files if number not in files[field]]
        if missing:
            there = next(found[number] for found in files.values() if number in found)
            faults.append(f"{_short(there)} has no {' and no '.join(missing)} file beside it")
            continue
        part = _part(files["image"][number], files.get("text", {}).get(number), files["metadata"][number], faults)
        if part is not None:
            parts.append(part)
    other = [f"{_short(part.image)} has dimension {part.dim}" for part in parts if part.dim != parts[0].dim]
    faults += [f"{fault}, {_short(parts[0].image)} has {parts[0].dim}" for fault in other]
    if not faults and not sum(part.rows for part in parts):
        faults.append("its files hold no rows")
    return parts, faults


def _numbered(folder: Path, field: str, faults: list[str]) -> dict[int, Path]:
    places = [path for name in FOLDERS[field] for path in sorted(folder.glob(name)) if path.is_dir()]
    if len(places) > 1:
        faults.append(f"both {places[0].name} and {places[1].name} may hold the {field} files; remove one")
    if not places:
        if field != "text":
            faults.append(f"no folder of {field} files ({', '.join(FOLDERS[field])})")
        return {}
    found: dict[int, Path] = {}
    for path in sorted(places[0].glob(f"*{_SUFFIX[field]}")):
        number = _NUMBER.search(path.stem)
        if number is None:
            faults.append(f"the name of {_short(path)} does not end in a number")
        elif int(number[1]) in found:
            faults.append(f"{_short(found[int(number[1])])} and {_short(path)} end in the same number")
        else:
            found[int(number[1])] = path
    if not found:
        faults.append(f"{places[0].name} holds no {_SUFFIX[field]} files")
    return found


def _part(image: Path, text: Path | None, metadata: Path, faults: list[str]) -> Part | None:
    """The part of these files, None where one cannot be read; faults are added."""
    before = len(faults)
    shapes = {path: shape for path in (image, text) if path and (shape := _shape(path, faults))}
    try:
        columns, rows = column_names(metadata)
    except ValueError as error:
        faults.append(str(error))
        return None
    caption, key = _first(CAPTION_COLUMNS, columns), _first(KEY_COLUMNS, columns)
    if caption is None:
        wanted = f"{', '.join(CAPTION_COLUMNS[:-1])} or {CAPTION_COLUMNS[-1]}"
        faults.append(f"{_short(metadata)} has no column {wanted}; it has: {', '.join(columns)}")
    counts = {path: shape[0] for path, shape in shapes.items()} | {metadata: rows}
    for path, count in list(counts.items())[1:]:
        if image in counts and count != counts[image]:
            faults.append(f"{_short(image)} has {counts[image]} rows but {_short(path)} has {count}")
    if text in shapes and image in shapes and shapes[text][1] != shapes[image][1]:
        faults.append(f"{_short(image)} has dimension {shapes[image][1]} but {_short(text)} has {shapes[text][1]}")
    if len(faults) > before or caption is None:
        return None
    number = _NUMBER.search(image.stem)
    assert number is not None
    return Part(number[1], image, text, metadata, rows, shapes[image][1], caption, key)


def _shape(path: Path, faults: list[str]) -> tuple[int, int] | None:
    try:
        rows, dim = map_npy(path).shape
    except ValueError as error:
        faults.append(str(error))
        return None
    return rows, dim


def _first(wanted: Sequence[str], columns: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in columns), None)


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
