from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Member = tuple[str, bytes] | tarfile.TarInfo


def _picture(seed: int = 0, size: tuple[int, int] = (8, 8), form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def _tar(path: Path, members: Sequence[Member]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """The bytes of a small noisy picture: seed, (width, height), format."""
    return _picture


@pytest.fixture
def make_tar() -> Callable[[Path, Sequence[Member]], Path]:
    """Write a tar of (name, content) pairs and bare headers."""
    return _tar
