"""The embedded set: the 1,797 handwritten digits that ship with scikit-learn, as RGB pictures."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from PIL import Image

from data.images import ArrayImages, ImageSource
from data.plan import sample_indices

SPLITS = {"train": slice(0, 1197), "tune": slice(1197, 1497), "test": slice(1497, 1797)}
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = (
    'a photo of the digit: "{}"',
    "a handwritten {}",
    "the number {}",
    "a blurry picture of the digit {}",
    "a small drawing of a {}",
    "the digit {} in white on black",
)
SIZE = 32
MARGIN = 0.1
"""Distance of ink and paper from the ends of [0, 1], as in photographs: on pure black and white the
box of pixels would stop half of every attack."""
_SPLIT_SEED = 1797


def digits(split: str, limit: int | None = None, *, image_size: int | None = None) -> ArrayImages:
    """The pictures of a split, [32, 32, 3] each, in a fixed random order: any prefix is fair.

    Args:
        split: 'train' (1,197), 'tune' (300) or 'test' (300); they share no picture.
        limit: how many of the first pictures.
        image_size: side in pixels, scaled from the 32 of the set; None keeps 32.

    Raises:
        ValueError: another split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split '{split}' of digits; choose one of: {', '.join(sorted(SPLITS))}")
    pixels, labels = _pictures()
    chosen = sample_indices(_SPLIT_SEED, 0, len(pixels), len(pixels))[SPLITS[split]][:limit]
    keys = [f"digits-{i:04d}" for i in chosen]
    pictures = pixels[chosen]
    if image_size not in (None, SIZE):
        pictures = np.stack([_scale(picture, image_size) for picture in pictures])
    return ArrayImages(pictures, labels[chosen], keys, name="digits", classes=CLASSES, templates=TEMPLATES)


def captions(source: ImageSource) -> list[str]:
    """One caption per sample of ``source``: its class name in a template that its key chooses.

    Raises:
        ValueError: the source has no templates or a sample has no label.
    """
    check_captionable(source)
    labels = source.labels if isinstance(source, ArrayImages) else [source[i].y for i in range(len(source))]
    return [caption_of(source, key, label) for key, label in zip(source.keys, labels, strict=True)]


def check_captionable(source: ImageSource) -> None:
    """Do nothing if the source has what captions are made from.

    Raises:
        ValueError: it has no class names or no templates.
    """
    if not source.templates or not source.classes:
        raise ValueError(f"'{source.name}' has no class names or no templates to make captions from")


def caption_of(source: ImageSource, key: str, label: int) -> str:
    """The caption of a sample: the name of its class in a template that its key chooses.

    Raises:
        ValueError: the sample has no label.
    """
    if label < 0:
        raise ValueError(f"sample '{key}' of '{source.name}' has no label to make a caption from")
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
    template = source.templates[number % len(source.templates)]
    return template.replace("{}", source.classes[label])


@cache
def _pictures() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    grey = np.rint(np.asarray(values).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # were 0..16
    scaled = np.stack([_scale(picture, SIZE) for picture in grey])
    pixels = np.rint(255 * MARGIN + scaled * (1 - 2 * MARGIN)).astype(np.uint8)
    return pixels, np.asarray(labels).astype(np.int64)


def _scale(picture: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(picture)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image.convert("RGB"))
