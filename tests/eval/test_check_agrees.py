"""``robustclip data check`` calls sound what an evaluation takes, and says why not where it refuses."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.schema import TaskConfig
from data.check import check_shards
from eval.tasks.classification import classification_task
from modules.encoders.clip import CLIP

Members = dict[str, bytes]
CLASSES = "zero\none\n"


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(file, "PNG")
    return file.getvalue()


def tar(members: Members) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


def pair(key: str, label: bytes = b"0", ending: str = "cls") -> Members:
    return {f"{key}.png": png(), f"{key}.{ending}": label}


SETS: dict[str, tuple[dict[str, bytes], str | None, str | None]] = {  # files by name, class names, why not
    "good": ({"0.tar": tar(pair("a") | pair("b", b"1"))}, CLASSES, None),
    "dotted": ({"0.tar": tar(pair("a.1", b"0") | pair("b.x.y", b"1"))}, CLASSES, None),
    "dotted collision": ({"0.tar": tar(pair("a.1") | pair("a.2"))}, CLASSES, "several pictures"),
    "gzip": ({"0.tar": gzip.compress(tar(pair("a")))}, CLASSES, "packed with gzip; unpack it"),
    "zero bytes": ({"0.tar": b""}, CLASSES, "has 0 bytes"),
    "no members": ({"0.tar": tar({})}, CLASSES, "the shard holds no samples"),
    "json labels": ({"0.tar": tar(pair("a", b'{"label": 1}', "json"))}, CLASSES, "no label"),
    "label out of range": ({"0.tar": tar(pair("a", b"2"))}, CLASSES, "bad label"),
    "label in words": ({"0.tar": tar(pair("a", b"one"))}, CLASSES, "bad label"),
    "no class names": ({"0.tar": tar(pair("a"))}, None, "names no classes; put a classnames.txt"),
    "one class": ({"0.tar": tar(pair("a"))}, "zero\n", "has 1 class, 'zero'"),
    "one of two is bad": ({"0.tar": tar(pair("a")), "1.tar": b"<html>"}, CLASSES, "not a readable"),
    "no images": ({"0.tar": tar({"a.cls": b"0"})}, CLASSES, "no picture"),
    "folder": ({"a/0.png": png(), "b/0.png": png()}, None, None),
    "folder, one class": ({"a/0.png": png()}, None, "has 1 class, 'a'"),
    "folder, bad image": ({"a/0.png": png(), "b/0.png": b"no"}, None, "not an image"),
    "images without labels": ({"0.tar": tar({"a.png": png(), "a.txt": b"hi"})}, None, "names no classes"),
}


@pytest.mark.parametrize("name", SETS)
def test_what_is_sound_can_be_evaluated_and_nothing_else(name: str, tmp_path: Path, clip: CLIP) -> None:
    files, classes, why = SETS[name]
    for file, content in files.items():
        path = tmp_path / "set" / "test" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if any(file.endswith(".tar") for file in files):
        (tmp_path / "set" / "test" / "nshards.txt").write_text(str(len(files)))
    if classes is not None:
        (tmp_path / "set" / "classnames.txt").write_text(classes)

    found = check_shards(str(tmp_path / "set"), "test")
    try:
        task = classification_task("t", TaskConfig(str(tmp_path / "set")), clip)
        assert sum(len(batch) for batch in task.batches(4)) == found.good
        refused = ""
    except ValueError as error:
        refused = str(error)
    assert (found.evaluation == "yes") == (not refused) == (why is None)
    if why is None:
        assert found.sound
    else:
        assert why in str(found.plain())
        assert found.sound == (name == "images without labels")  # which train, and say that they cannot be evaluated


def test_shards_that_do_not_fit_together_are_not_sound(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.tar").write_bytes(tar(pair("a") | pair("b", b"1")))
    (tmp_path / "all.txt").write_text("a/0.tar\nb/0.tar\n")
    found = check_shards(str(tmp_path / "all.txt"), "test")
    assert not found.sound and "stands for two samples" in str(found.plain())
