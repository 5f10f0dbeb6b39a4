"""One small picture of a page, as a data URI."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Picture:
    """One small picture: its data URI, what it is, and what the model said (``right`` or not)."""

    uri: str
    kind: str
    said: str = ""
    right: bool = True


def data_uri(image: np.ndarray) -> str:
    """A PNG data URI of an image [3,H,W] in [0,1]; what is outside is clipped."""
    from PIL import Image

    levels = np.nan_to_num(np.clip(image, 0, 1)) * 255
    buffer = io.BytesIO()
    Image.fromarray(levels.round().astype(np.uint8).transpose(1, 2, 0)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
