"""How a model wants image files prepared: what it says about itself, as ``data`` does it."""

from __future__ import annotations

from typing import Any, cast

from data.framing import Framing, ResizeMode
from data.transforms import Interpolation
from modules.encoders.base import ImageEncoder


def framing_of(encoder: ImageEncoder) -> Framing:
    """Return the framing that an encoder was trained with: open_clip's, read off its weights' config.

    Args:
        encoder: an image tower, or what is built around one.
    """
    inner: Any = encoder
    while not hasattr(inner, "resize_mode") and isinstance(getattr(inner, "encoder", None), ImageEncoder):
        inner = inner.encoder
    return Framing(
        encoder.image_size,
        interpolation=cast(Interpolation, getattr(inner, "interpolation", "bicubic")),
        mode=cast(ResizeMode, getattr(inner, "resize_mode", "shortest")),
    )
