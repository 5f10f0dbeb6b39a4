"""From the members of a sample, as a tar holds them, to the sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from data.batches import ImageSample
from data.framing import Framing
from data.source import check_label
from data.transforms import IMAGE_EXTENSIONS, MAX_PIXELS, DecodeError, decode_image


@dataclass(frozen=True)
class Decoding:
    """How pictures become pixels, and which labels there are.

    Attributes:
        framing: how a picture becomes a square.
        max_pixels: see ``decode_image``.
        classes: how many there are; 0 takes any label.
    """

    framing: Framing
    max_pixels: int = MAX_PIXELS
    classes: int = 0


def is_picture(extension: str) -> bool:
    """Whether a member with this extension is a picture."""
    return extension.rpartition(".")[2] in IMAGE_EXTENSIONS


def the_picture(extensions: Iterable[str]) -> str:
    """The one extension among those of a sample that is a picture's.

    Raises:
        DecodeError: there is none, or several.
    """
    extensions = list(extensions)
    pictures = list(filter(is_picture, extensions))
    if len(pictures) != 1:
        raise DecodeError("several pictures" if pictures else "no picture", ", ".join(extensions))
    return pictures[0]


def decode_sample(
    content: Mapping[str, bytes], picture: str, key: str, how: Decoding, out: Tensor | None = None
) -> ImageSample:
    """The sample with these members: the label from ``cls``, the caption from ``txt``.

    Args:
        content: of the members by extension.
        picture: extension of the picture.
        key: of the sample.
        how: pictures become pixels.
        out: [3, H, W] float32 to write the pixels into.

    Raises:
        DecodeError: whatever is wrong with them.
    """
    image = decode_image(content[picture], max_pixels=how.max_pixels)
    x = how.framing.pixels(image, out)
    label = label_of(content["cls"], how.classes) if "cls" in content else -1
    caption = caption_text(content["txt"]) if "txt" in content else None
    return ImageSample(x, label, key, caption)


def caption_text(content: bytes) -> str:
    """The caption in a ``.txt`` member.

    Raises:
        DecodeError: not UTF-8.
    """
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DecodeError("bad caption", "not UTF-8") from error


def label_of(content: bytes, classes: int) -> int:
    """The class index in a ``.cls`` member.

    Raises:
        DecodeError: none of ``classes`` classes has it.
    """
    text = content[:32].decode("ascii", errors="replace").strip()
    try:
        label = int(text)
        check_label(label, classes, "its .cls")
    except ValueError as error:
        raise DecodeError("bad label", f"'{text}' with {classes} classes") from error
    return label
