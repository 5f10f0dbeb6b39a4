"""What every layout comes to: keys, labels, class names, and a way to each picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import numpy as np
from PIL import Image
from torch import Tensor

from data.batches import ImageSample
from data.decoded import DecodedImages
from data.framing import Framing
from data.source import check_label
from data.text_files import read_lines
from data.transforms import MAX_PIXELS, DecodeError, decode_image

MAX_FILE_BYTES = 256 * 1024**2


@dataclass(frozen=True, eq=False)
class Listing:
    """The pictures of one split.

    Attributes:
        keys: N unique names, sorted unless the data set has an order of its own.
        labels: N class indices.
        classes: names as the data set has them, by label.
        picture: index -> picture.
        layout: in words, for the record.
    """

    keys: Sequence[str]
    labels: Sequence[int]
    classes: Sequence[str]
    picture: Callable[[int], Image.Image]
    layout: str = ""


class ListedImages(DecodedImages):
    """The pictures of a listing.

    Args:
        listing: of the pictures.
        framing: see there.
        name: for reports.
        templates: of prompts.
        skip_bad: see ``DecodedImages``.
    """

    def __init__(
        self,
        listing: Listing,
        framing: Framing,
        *,
        name: str,
        templates: Sequence[str] = (),
        skip_bad: bool = False,
    ) -> None:
        super().__init__(name=name, keys=listing.keys, classes=listing.classes, templates=templates, skip_bad=skip_bad)
        self.listing, self.framing = listing, framing
        self.places = (folder,) if (folder := getattr(listing.picture, "folder", "")) else ()
        self.labels = [int(label) for label in listing.labels]
        if not len(self.keys) == len(self.labels) == len(set(self.keys)):
            raise ValueError(f"'{name}' needs a label and a unique key for each of its {len(self.keys)} pictures")
        for key, label in zip(self.keys, self.labels, strict=True):
            check_label(label, len(self.classes), f"sample '{key}' of '{name}'")

    def _sample(self, index: int, out: Tensor | None) -> ImageSample:
        try:
            x = self.framing.pixels(self.listing.picture(index), out)
        except DecodeError as error:
            where = f"{self.keys[index]} of '{self.name}'"
            raise DecodeError(error.reason, f"{error.detail}; {where}" if error.detail else where) from error
        return ImageSample(x, self.labels[index], self.keys[index])


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Pictures in files, decoded when asked for."""

    paths: Sequence[Path]
    max_pixels: int = MAX_PIXELS

    def __call__(self, index: int) -> Image.Image:
        """The picture of a file.

        Raises:
            DecodeError: it cannot be read or decoded.
        """
        path = self.paths[index]
        try:
            status = path.stat()
            if not S_ISREG(status.st_mode):
                raise DecodeError("unreadable", "not a plain file")
            if status.st_size > MAX_FILE_BYTES:
                raise DecodeError("too many pixels", f"a file of {status.st_size} bytes")
            content = path.read_bytes()
        except OSError as error:
            raise DecodeError("unreadable", error.strerror or type(error).__name__) from error
        return decode_image(content, max_pixels=self.max_pixels)


@dataclass(frozen=True, eq=False)
class ArrayPictures:
    """Pictures in an array [N, H, W, 3] or [N, H, W] of uint8, perhaps in a file."""

    pixels: np.ndarray

    def __call__(self, index: int) -> Image.Image:
        """The picture of a row."""
        return Image.fromarray(np.ascontiguousarray(self.pixels[index]))


def place(root: Path, inner: str) -> Path | None:
    """Where ``inner`` lies, for a user who named its parent, itself, or a folder within it; None where nowhere."""
    parts = Path(inner).parts
    for skipped in range(len(parts) + 1):
        found = root.joinpath(*parts[skipped:])
        if tuple(root.parts[len(root.parts) - skipped :]) == parts[:skipped] and found.exists():
            return found
    return None


def text_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank.

    Raises:
        ValueError: it is no text; see ``data.text_files``.
    """
    return [line for _, line in read_lines(path)]


def need(path: Path) -> Path:
    """The path itself, which has to be there.

    Raises:
        ValueError: it is not.
    """
    if not path.exists():
        raise ValueError(f"no '{path}', which this layout has; unpack the data set again")
    return path
