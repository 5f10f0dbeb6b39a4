"""Digits as pictures in class folders, as users have their own."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from data.sample import CLASSES, digits


def folders(root: Path, counts: dict[str, int], *, classes: int) -> Path:
    """``root/<split>/<class>/<name>.png`` with so many digits of each class in each split."""
    for split, count in counts.items():
        source = digits(split)
        for label in range(classes):
            folder = root / split / CLASSES[label]
            folder.mkdir(parents=True)
            places = [i for i, other in enumerate(source.labels) if other == label][:count]
            for i in places:
                Image.fromarray(source.pixels[i]).save(folder / f"{source.keys[i]}.png")
    return root
