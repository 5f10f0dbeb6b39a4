"""From the bytes of an untrusted file to pixels in [0, 1]."""

from __future__ import annotations

import io
import warnings
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.faults import OneLineError

Interpolation = Literal["bicubic", "bilinear"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM")
IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "pgm"})
MAX_PIXELS = 178_956_970 // 2
_MAGIC = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\1\0": "ICO",
    b"8BPS": "Photoshop",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"P7\n": "PAM",
}
_LARGE, _PIXELS_PER_BYTE = 2**24, 100  # a larger picture of fewer bytes shows nothing and fills the memory
_MOST_SCALED = 2**25
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class DecodeError(OneLineError):
    """A file that gives no picture; ``reason`` is one of a few short words, fit for counting."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = str(self.args[0])
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the image as 8-bit RGB, as torchvision's ``ImageFolder`` and clip_benchmark read it (``convert("RGB")``).

    So the first frame counts, transparency is dropped without a background, and an EXIF rotation is not applied.  Only
    gray of 16 bits differs: it is scaled to 8 bits, where they clip it to white.  The size in the header is checked
    before a pixel is decoded, also against the length of the file, and only a few formats are tried.

    Args:
        data: content of the file.
        max_pixels: width times height above which a picture is refused.

    Raises:
        DecodeError: whatever is wrong with the file.
    """
    if not data:
        raise DecodeError("empty")
    with warnings.catch_warnings():
        # Pillow warns about odd but readable files; whether they decode is the whole question here.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise DecodeError("too many pixels") from error
        except Image.UnidentifiedImageError as error:
            raise _unidentified(data) from error
        except Exception as error:
            raise DecodeError("undecodable", _first_line(error)) from error
        if image.width * image.height > max_pixels:
            raise DecodeError("too many pixels", f"{image.width} x {image.height}")
        if _LARGE < image.width * image.height > _PIXELS_PER_BYTE * len(data):
            raise DecodeError("too many pixels", f"{image.width} x {image.height} in {len(data)} bytes")
        try:
            return to_rgb(image)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError("undecodable", _first_line(error)) from error


def resize_and_crop(
    image: Image.Image,
    size: int | None,
    *,
    interpolation: Interpolation = "bicubic",
    resize: int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """[3, size, size] float32 pixels in [0, 1]: the shorter side is scaled, the centre is cut out.

    The longer side and the crop's corner are rounded as in torchvision's Resize and CenterCrop.

    Args:
        image: any PIL image.
        size: side of the crop in pixels; None keeps the picture as it is.
        interpolation: filter of the scaling.
        resize: length of the shorter side before the crop, at least ``size``; None means ``size``.
        out: [3, size, size] float32 to write into, instead of a new tensor.

    Raises:
        ValueError: ``resize`` is smaller than ``size``.
        DecodeError: a strip so thin that it has too many pixels once scaled.
    """
    image = to_rgb(image)
    if size is not None:
        side = size if resize is None else resize
        if side < size:
            raise ValueError(f"a shorter side of {side} pixels is too small for a crop of {size}")
        image = _crop_centre(_scale_shorter_side(image, side, interpolation), size)
    return to_unit_pixels(np.asarray(image), out)


def to_unit_pixels(pixels: np.ndarray, out: Tensor | None = None) -> Tensor:
    """[3, H, W] float32 in [0, 1] from [H, W, 3] uint8; written into ``out`` where that is given."""
    planes = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    return torch.div(planes, 255, out=out)


def _scale_shorter_side(image: Image.Image, side: int, interpolation: Interpolation) -> Image.Image:
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short == side:
        return image
    other = int(side * long / short)
    if side * other > max(_MOST_SCALED, 4 * side * side):
        # A thin strip is small itself and explodes when its short side is scaled up.
        raise DecodeError("too many pixels", f"{width} x {height} scaled to a shorter side of {side}")
    size = (side, other) if width <= height else (other, side)
    return image.resize(size, FILTERS[interpolation])


def _crop_centre(image: Image.Image, size: int) -> Image.Image:
    if image.size == (size, size):
        return image
    left = round((image.width - size) / 2)
    top = round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image as 8-bit RGB."""
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode == "F":
        raise DecodeError("unsupported format", "floating-point pixels, whose range is not known; save it with 8 bits")
    if image.mode.startswith("I"):  # 16-bit gray: I;16 of PNG, I of PGM and of PNG in older Pillows, never more
        image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _unidentified(data: bytes) -> DecodeError:
    """What is wrong with a file of none of ``FORMATS``; a well-known format is named."""
    start = data[:512].lstrip(b"\xef\xbb\xbf \r\n\t")
    if b"<svg" in start:
        name = "SVG"
    elif data[4:8] == b"ftyp":
        name = "AVIF" if data[8:11] == b"avi" else "HEIF"
    else:
        name = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if name is None:
        return DecodeError("not an image", f"starts with {data[:8]!r}")
    return DecodeError("unsupported format", f"{name}; convert it to PNG or JPEG")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
