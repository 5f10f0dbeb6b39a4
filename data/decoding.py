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
        labeled: a sample without a label is bad.
    """

    framing: Framing
    max_pixels: int = MAX_PIXELS
    classes: int = 0
    labeled: bool = False


def is_picture(extension: str) -> bool:
    """Whether a member with this extension is a picture."""
    return extension.rpartition(".")[2] in IMAGE_EXTENSIONS


def is_caption(extension: str) -> bool:
    """Whether a member with this extension is a caption."""
    return extension.rpartition(".")[2] == "txt"


@dataclass(frozen=True)
class SampleMembers:
    """The extensions of a sample that are read: of its image, and of its label and caption where it has them."""

    picture: str
    label: str | None
    caption: str | None

    @property
    def all(self) -> list[str]:
        """Those that there are."""
        return [name for name in (self.picture, self.label, self.caption) if name is not None]


def members_of(extensions: Iterable[str]) -> SampleMembers:
    """Return which members of a sample are its image, its label (``cls``) and its caption (``txt``).

    A name is split at its first dot, as in webdataset: ``a.b.png`` and ``a.b.cls`` are sample ``a`` with the extensions
    ``b.png`` and ``b.cls``, which still belong together.

    Raises:
        DecodeError: no image, or several.
    """
    extensions = list(extensions)
    pictures = list(filter(is_picture, extensions))
    if len(pictures) != 1:
        dotted = "; a key ends at the first dot of a name" if any("." in name for name in pictures) else ""
        raise DecodeError("several pictures" if pictures else "no picture", ", ".join(extensions) + dotted)
    inner = pictures[0].rpartition(".")[0]

    def beside(kind: str) -> str | None:
        return next((name for name in (kind, f"{inner}.{kind}") if name in extensions), None)

    return SampleMembers(pictures[0], beside("cls"), beside("txt"))


def decode_sample(
    content: Mapping[str, bytes], members: SampleMembers, key: str, how: Decoding, out: Tensor | None = None
) -> ImageSample:
    """The sample with these members.

    Args:
        content: of the members by extension.
        members: which of them are read.
        key: of the sample.
        how: pictures become pixels.
        out: [3, H, W] float32 to write the pixels into.

    Raises:
        DecodeError: whatever is wrong with them.
    """
    image = decode_image(content[members.picture], max_pixels=how.max_pixels)
    x = how.framing.pixels(image, out)
    label = -1 if members.label is None else label_of(content[members.label], how.classes)
    if how.labeled and label < 0:
        raise DecodeError("no label", "a label is a member .cls with the number of a class")
    caption = None if members.caption is None else caption_text(content[members.caption])
    return ImageSample(x, label, key, caption)


def caption_text(content: bytes) -> str:
    """The caption in a ``.txt`` member.

    Raises:
        DecodeError: not UTF-8.
    """
    try:
        return content.decode("utf-8-sig").strip()
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
