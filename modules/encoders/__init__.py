"""Encoders: pixels in [0, 1] in, embeddings out."""

from modules.encoders.base import FrozenReference, ImageEncoder, frozen
from modules.encoders.clip import CLIP, CLIPEncoder, TextEncoder, load_clip

__all__ = [
    "CLIP",
    "CLIPEncoder",
    "FrozenReference",
    "ImageEncoder",
    "TextEncoder",
    "frozen",
    "load_clip",
]
