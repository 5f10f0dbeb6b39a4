from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from data.transforms import (
    DecodeError,
    Interpolation,
    decode_image,
    resize_and_crop,
    to_unit_pixels,
)


def _noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 4))
    return Image.fromarray(pixels.astype(np.uint8)[..., :3]).convert(mode)


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [7, 24, 32, 33])
@pytest.mark.parametrize("resize", [None, 37])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_equal_torchvisions(size: int, resize: int | None, interpolation: Interpolation) -> None:
    import modules  # noqa: F401  makes torchvision importable beside any torch

    transforms = pytest.importorskip("torchvision.transforms")
    reference = transforms.Compose(
        [
            transforms.Resize(resize or size, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
        ]
    )
    for width, height in [(32, 32), (33, 50), (50, 33), (7, 90), (101, 64), (24, 25), (20, 23)]:
        image = _noise(width, height)
        ours = resize_and_crop(image, size, interpolation=interpolation, resize=resize)
        assert torch.equal(ours, reference(image)), (width, height)


def test_an_image_of_the_target_size_is_unchanged() -> None:
    image = _noise(16, 16)
    x = resize_and_crop(image, 16)
    assert x.dtype == torch.float32
    assert torch.equal((x * 255).round().to(torch.uint8).permute(1, 2, 0), torch.tensor(np.array(image)))
    assert torch.equal(x, to_unit_pixels(np.array(image)))


def test_without_a_size_the_picture_keeps_its_own() -> None:
    assert resize_and_crop(_noise(11, 5), None).shape == (3, 5, 11)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_gives_three_channels_between_0_and_1(mode: str) -> None:
    image = _noise(12, 9).convert("L").convert(mode) if mode == "LA" else _noise(12, 9, mode)
    x = resize_and_crop(image, 8)
    assert x.shape == (3, 8, 8)
    assert 0 <= x.min() < x.max() <= 1


def test_sixteen_bit_grey_is_scaled_instead_of_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    x = resize_and_crop(decode_image(file.getvalue()), None)
    assert (x[0, 0] * 255).round().tolist() == [0, 1, 128, 255]


def test_a_crop_larger_than_the_shorter_side_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter side of 20 pixels is too small for a crop of 24"):
        resize_and_crop(_noise(40, 40), 24, resize=20)


def test_a_thin_strip_does_not_explode_when_scaled() -> None:
    with pytest.raises(DecodeError, match="too many pixels"):
        resize_and_crop(Image.new("RGB", (100_000, 1)), 224)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM"])
def test_the_usual_formats_decode(form: str, picture: Callable[..., bytes]) -> None:
    image = decode_image(picture(1, (9, 6), form))
    assert (image.mode, image.size) == ("RGB", (9, 6))


def test_lossless_formats_keep_every_pixel(picture: Callable[..., bytes]) -> None:
    png, bmp = decode_image(picture(4, (5, 5), "PNG")), decode_image(picture(4, (5, 5), "BMP"))
    assert png.tobytes() == bmp.tobytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not an image"),
        (b"\xff\xd8\xff\xe0 and then nothing of a JPEG", "undecodable"),
        (_png_header(60_000, 60_000), "too many pixels"),
        (_png_header(12_000, 10_000), "too many pixels"),  # Pillow itself would only warn
        (_png_header(16, 16), "undecodable"),
    ],
    ids=["empty", "html", "garbage", "bomb", "small bomb", "no pixels"],
)
def test_bad_files_are_refused_with_a_countable_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_image(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_cut_file_is_refused(form: str, picture: Callable[..., bytes]) -> None:
    whole = picture(2, (64, 64), form)
    with pytest.raises(DecodeError):
        decode_image(whole[: len(whole) // 2])


def test_formats_that_start_programs_are_never_tried() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(DecodeError, match="not an image"):
        decode_image(postscript)


def test_the_pixel_limit_is_the_callers(picture: Callable[..., bytes]) -> None:
    data = picture(0, (10, 10))
    assert decode_image(data, max_pixels=100).size == (10, 10)
    with pytest.raises(DecodeError, match=r"too many pixels \(10 x 10\)"):
        decode_image(data, max_pixels=99)


def test_the_error_travels_between_processes() -> None:
    error = DecodeError("undecodable", "why")
    again = pickle.loads(pickle.dumps(error))
    assert (again.reason, str(again)) == (error.reason, str(error))
