"""Pictures made to hurt: a few bytes that claim, or unpack to, a picture that fills the memory."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from data.transforms import DecodeError, decode_image, resize_and_crop
from tests.waiting import CEILING

ROOT = Path(__file__).parents[2]
READER = """
import json, resource, sys
from pathlib import Path
from data.transforms import DecodeError, decode_image, resize_and_crop
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
folder = Path(sys.argv[1])
for path in sorted(folder.glob("good-*")):
    resize_and_crop(decode_image(path.read_bytes()), 224)
before, found = peak(), {}
for path in sorted(folder.glob("bad-*")):
    try:
        resize_and_crop(decode_image(path.read_bytes()), 224)
        found[path.name] = "read"
    except DecodeError as error:
        found[path.name] = error.reason
print(json.dumps({"found": found, "grown": peak() - before}))
"""


def png(width: int, height: int, *more: tuple[bytes, bytes], rows: int | None = None) -> bytes:
    """A white PNG of one bit a pixel, of which so many rows are there."""
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (-(-width // 8))
    packed = b"".join(packer.compress(row) for _ in range(height if rows is None else rows)) + packer.flush()
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
        *more,
        (b"IDAT", packed),
        (b"IEND", b""),
    ]
    made = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def webp(width: int, height: int) -> bytes:
    body = b"\x2f" + struct.pack("<I", (width - 1) | ((height - 1) << 14)) + bytes(64)
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def gif(width: int, height: int, *, screen: tuple[int, int] | None = None) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *(screen or (width, height)), 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00;"


def bmp(width: int, height: int) -> bytes:
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0)
    return b"BM" + struct.pack("<IHHI", 200, 0, 0, 54) + sizes + bytes(100)


def jpeg(width: int, height: int) -> bytes:
    frame = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    return b"\xff\xd8" + frame + b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00" + bytes(64) + b"\xff\xd9"


def ppm(width: int, height: int) -> bytes:
    return b"P6 %d %d 255\n" % (width, height) + bytes(100)


FORMS = {"webp": webp, "gif": gif, "bmp": bmp, "jpeg": jpeg, "ppm": ppm}
PACKED = zlib.compress(bytes(2**27), 9)
TOO_MANY = {
    **{f"{name} far above the cap": make(16_383, 16_383) for name, make in FORMS.items()},
    **{f"{name} below the cap": make(9_400, 9_400) for name, make in FORMS.items()},
    "png far above the cap": png(60_000, 60_000, rows=4),
    "png below the cap": png(9_400, 9_400, rows=4),
    "png below the cap, whole": png(9_400, 9_400),
    "a frame larger than its screen": gif(16_383, 16_383, screen=(8, 8)),
    "a strip": png(1_700, 1),
    "a standing strip": png(1, 1_700),
}
UNREAD = {
    "a text without end": png(8, 8, (b"zTXt", b"a\0\0" + PACKED)),
    "another text without end": png(8, 8, (b"iTXt", b"a\0\1\0\0\0" + PACKED)),
    "a profile without end": png(8, 8, (b"iCCP", b"a\0\0" + PACKED)),
}


def test_no_picture_fills_the_memory_and_each_is_refused_for_a_reason(tmp_path: Path) -> None:
    for number, form in enumerate(("PNG", "WEBP", "GIF", "BMP", "JPEG", "PPM")):
        Image.new("RGB", (300, 300)).save(tmp_path / f"good-{number}", form)
    bad = {**TOO_MANY, **UNREAD}
    for number, content in enumerate(bad.values()):
        (tmp_path / f"bad-{number:02d}").write_bytes(content)
        assert len(content) < 2**18
    ended = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=CEILING
    )
    assert ended.returncode == 0, ended.stderr[-500:]
    said = json.loads(ended.stdout)
    found = dict(zip(bad, said["found"].values(), strict=True))
    assert {name: found[name] for name in TOO_MANY} == dict.fromkeys(TOO_MANY, "too many pixels")
    assert set(found.values()) <= {"too many pixels", "undecodable", "read"}
    assert said["grown"] < 200, f"{said['grown']} MiB"


@pytest.mark.parametrize("size", [(5_000, 4_000)])
def test_large_pictures_that_show_something_are_read(size: tuple[int, int]) -> None:
    noise = Image.effect_noise((size[0] // 8, size[1] // 8), 60).resize(size, Image.Resampling.BILINEAR)
    file = io.BytesIO()
    noise.save(file, "JPEG", quality=60)
    assert decode_image(file.getvalue()).size == size


def test_a_long_picture_is_scaled_and_a_strip_is_not() -> None:
    assert resize_and_crop(Image.new("RGB", (3_000, 10)), 32).shape == (3, 32, 32)
    with pytest.raises(DecodeError, match="too many pixels"):
        resize_and_crop(Image.new("RGB", (1_700, 1)), 224)
