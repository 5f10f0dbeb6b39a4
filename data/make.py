"""Making shards: from a folder of pictures, or from the embedded set."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from data.class_texts import CLASS_FILE, TEMPLATE_FILE, class_name, read_classes
from data.folder_images import splits_among, visible_files
from data.images import ArrayImages
from data.manifest import new_folder, write_text
from data.sample import CLASSES, SPLITS, TEMPLATES, captions, digits
from data.shards import write_shards
from data.source import check_classes
from data.tars import is_hidden
from data.transforms import IMAGE_EXTENSIONS, DecodeError, decode_image

_LISTED = 5  # bad files named in the one line of an error


class BadImagesError(ValueError):
    """Files that are no pictures; ``bad`` lists each as (path, reason)."""

    def __init__(self, bad: list[tuple[str, str]], total: int) -> None:
        reasons = ", ".join(f"{count} {reason}" for reason, count in _by_reason(bad).items())
        named = ", ".join(path for path, _ in bad[:_LISTED]) + (", ..." if len(bad) > _LISTED else "")
        remedy = "repair or remove them, or leave them out with skip_bad"
        super().__init__(f"{len(bad)} of {total} files are bad ({reasons}): {named}; {remedy}")
        self.bad = bad


def make_from_folder(
    folder: Path, out: Path, *, split: str = "test", per_shard: int = 1000, skip_bad: bool = False
) -> dict[str, Any]:
    """Shards of ``folder/<class>/<picture>`` in clip_benchmark's layout, and a summary of them.

    The files' bytes are kept as they are; classes and files are taken in the order of their names, and folders within
    a class folder belong to the class.
    Each sample holds the picture, its label (``cls``) and where it came from (``path``).

    Args:
        folder: holds one folder per class, whose name is the class name.
        out: root of the data set; ``out/<split>`` must be new.
        split: name of the split.
        per_shard: samples of a shard.
        skip_bad: leave out files that do not decode, and list them in the summary.

    Raises:
        BadImagesError: some files do not decode; nothing has been written then.
        ValueError: no classes, an empty class, or an ``out`` with other classes.
    """
    classes = _class_folders(folder, out)
    counts: Counter[str] = Counter()
    bad: list[tuple[str, str]] = []
    samples = _labelled(folder, classes, counts, bad, skip_bad)
    shards = write_shards(out / split, samples, per_shard=per_shard)
    write_text(out / CLASS_FILE, "".join(f"{class_name(name)}\n" for name in classes))
    summary = {"samples": counts.total(), "shards": len(shards), "classes": dict(counts)}
    return {**summary, "bad": _by_reason(bad), "bad_files": bad}


def _class_folders(folder: Path, out: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"no folder '{folder}'; check the path")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
    if not classes:
        raise ValueError(f"no class folders in '{folder}'; it must hold <class>/<picture>")
    if splits := splits_among(classes):
        raise ValueError(f"'{folder}' holds splits ({', '.join(splits)}), not class folders; name one of them")
    odd = next((name for name in classes if name != name.strip() or not name.isprintable() or name[0] == "#"), None)
    if odd is not None:
        raise ValueError(f"class folder {odd!r} of '{folder}' cannot be a line of {CLASS_FILE}; rename it")
    names = [class_name(name) for name in classes]
    check_classes(names, f"the class folders of '{folder}'")
    listed = out / CLASS_FILE
    if listed.is_file() and read_classes(listed) != names:
        raise ValueError(f"'{listed}' and '{folder}' hold different classes; choose another output")
    return classes


def _labelled(
    folder: Path,
    classes: list[str],
    counts: Counter[str],
    bad: list[tuple[str, str]],
    skip_bad: bool,
) -> Iterator[dict[str, Any]]:
    """The samples of a folder; fills ``counts`` and ``bad`` and judges them at the end."""
    for label, name in enumerate(classes):
        counts[name] = 0
        for _, within in visible_files(str(folder / name)):
            path, inner = folder / name / within, f"{name}/{within}"
            reason = _fault(path)
            if reason:
                bad.append((inner, reason))
                continue
            key = f"s{counts.total():07d}"
            counts[name] += 1
            extension = path.suffix[1:].lower()
            yield {"__key__": key, extension: path.read_bytes(), "cls": str(label), "path": inner}
    if bad and not skip_bad:
        raise BadImagesError(bad, counts.total() + len(bad))
    empty = next((name for name, count in counts.items() if not count), None)
    if empty is not None:
        raise ValueError(f"class '{empty}' of '{folder}' holds no picture; fill or remove it")


def make_from_sample(name: str, out: Path, *, per_shard: int = 1000) -> dict[str, Any]:
    """All splits of the embedded set ``name`` ('digits') in clip_benchmark's layout, with captions.

    Raises:
        ValueError: another name, or ``out`` is not empty.
    """
    if name != "digits":
        raise ValueError(f"unknown embedded set '{name}'; choose digits")
    summary: dict[str, Any] = {}
    with new_folder(out) as temporary:
        for split in SPLITS:
            source = digits(split)
            shards = write_shards(temporary / split, _encoded(source), per_shard=per_shard)
            summary[split] = {"samples": len(source), "shards": len(shards)}
        placed = (template.replace("{}", "{c}") for template in TEMPLATES)
        write_text(temporary / CLASS_FILE, "".join(f"{line}\n" for line in CLASSES))
        write_text(temporary / TEMPLATE_FILE, "".join(f"{line}\n" for line in placed))
    return summary


def _encoded(source: ArrayImages) -> Iterator[dict[str, Any]]:
    written = captions(source)
    for i, key in enumerate(source.keys):
        file = io.BytesIO()
        Image.fromarray(source.pixels[i]).save(file, "PNG")
        label = str(source.labels[i])
        yield {"__key__": key, "png": file.getvalue(), "cls": label, "txt": written[i]}


def _fault(path: Path) -> str | None:
    if path.suffix[1:].lower() not in IMAGE_EXTENSIONS or not path.is_file():
        return "not a picture's file name"
    try:
        decode_image(path.read_bytes())
    except DecodeError as error:
        return error.reason
    return None


def _by_reason(bad: list[tuple[str, str]]) -> dict[str, int]:
    return dict(sorted(Counter(reason for _, reason in bad).items()))
