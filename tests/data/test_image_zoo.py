"""Images of every kind decode as torchvision's ImageFolder decodes them, or are refused in a line that says why."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.transforms import DecodeError, decode_image

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8))
LEVELS = (0, 257, 32896, 65535)
"""Of 16 bits: 0, 1, 128 and 255 of 8."""


def saved(image: Image.Image, form: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def png(width: int, depth: int, color: int, row: bytes, **chunks: bytes) -> bytes:
    """A PNG of one row."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0))]
    parts += [(name.encode(), body) for name, body in chunks.items()]
    parts += [(b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def short(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def with_alpha() -> Image.Image:
    image = RGB.convert("RGBA")
    image.putalpha(RGB.convert("L"))
    return image


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    return exif


FRAMES = {"save_all": True, "append_images": [RGB.transpose(Image.Transpose.ROTATE_180)]}
ZOO = {
    "RGB of 16 bits": png(4, 16, 2, short(*(value for value in LEVELS for _ in range(3)))),
    "RGBA of 16 bits": png(4, 16, 6, short(*(x for value in LEVELS for x in (value, value, value, 30000)))),
    "gray and alpha of 16 bits": png(4, 16, 4, short(*(x for value in LEVELS for x in (value, 30000)))),
    "gray of 1 bit": png(8, 1, 0, b"\xa5"),
    "gray of 4 bits": png(4, 4, 0, b"\x01\x7f"),
    "palette with transparency": png(2, 8, 3, b"\0\1", PLTE=bytes([9, 20, 30, 200, 100, 50]), tRNS=bytes([0, 128])),
    "gray with transparency": png(2, 8, 0, b"\0\xc8", tRNS=short(200)),
    "LA": saved(RGB.convert("LA"), "PNG"),
    "RGBA": saved(with_alpha(), "PNG"),
    "RGBA of WebP": saved(with_alpha(), "WEBP", lossless=True),
    "CMYK": saved(RGB.convert("CMYK"), "JPEG"),
    "gray JPEG": saved(RGB.convert("L"), "JPEG"),
    "EXIF rotation": saved(RGB, "JPEG", exif=turned()),
    "animated GIF": saved(RGB, "GIF", **FRAMES),
    "animated WebP": saved(RGB, "WEBP", **FRAMES),
    "animated PNG": saved(RGB, "PNG", **FRAMES),
    "MPO": saved(RGB, "MPO", **FRAMES),
    "PBM": b"P4 8 1\n\xa5",
    "one pixel": saved(RGB.crop((0, 0, 1, 1)), "PNG"),
    "a strip": saved(RGB.resize((1, 5000)), "PNG"),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", ZOO)
def test_an_image_is_what_torchvisions_loader_makes_of_it(name: str) -> None:
    with Image.open(io.BytesIO(ZOO[name])) as image:
        expected = np.asarray(image.convert("RGB"))  # torchvision.datasets.folder.pil_loader
    assert np.array_equal(np.asarray(decode_image(ZOO[name])), expected)


@pytest.mark.parametrize(
    "data",
    [png(4, 16, 0, short(*LEVELS)), b"P5 4 1 65535\n" + short(*LEVELS), b"P5 4 1 4095\n" + short(0, 16, 2056, 4095)],
    ids=["PNG", "PGM", "PGM of 12 bits"],
)
def test_gray_of_16_bits_is_scaled_and_not_clipped_to_white(data: bytes) -> None:
    red = np.asarray(decode_image(data))[0, :, 0].astype(int)
    assert np.abs(red - [0, 1, 128, 255]).max() <= 1


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (saved(RGB, "TIFF"), "TIFF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "HEIF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(100), "AVIF"),
        (b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\xff\x0a" + bytes(100), "JPEG XL"),
        (b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.2, 0.8), "floating-point pixels"),
    ],
)
def test_a_known_format_that_is_not_read_is_named(data: bytes, told: str) -> None:
    with pytest.raises(DecodeError, match=rf"^unsupported format \({told}.*(convert it to PNG or JPEG|save it)"):
        decode_image(data)
