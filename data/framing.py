"""How an image file becomes the square of pixels that a model looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image
from torch import Tensor

from data.transforms import FILTERS, Interpolation, resize_and_crop, to_rgb, to_unit_pixels

ResizeMode = Literal["shortest", "longest", "squash"]
MODES: dict[str, ResizeMode] = {"crop": "shortest", "squash": "squash"}
"""Recipes' words for triplets."""


@dataclass(frozen=True)
class Framing:
    """How an image is brought to a model's resolution; the modes are open_clip's ``resize_mode``.

    Attributes:
        size: side of the square in pixels; None keeps the image as it is.
        resize: length of the shorter side before the crop, in mode ``shortest``; None means ``size``.
        interpolation: filter of the scaling.
        mode: ``shortest`` scales the shorter side and crops the center (CLIP), ``longest`` scales the longer side and
            pads with black, ``squash`` scales both sides (SigLIP, CLIPA).
    """

    size: int | None = None
    resize: int | None = None
    interpolation: Interpolation = "bicubic"
    mode: ResizeMode = "shortest"

    @property
    def side(self) -> int:
        """The side in pixels of a framing that has one."""
        assert self.size is not None, "images keep their own sizes"
        return self.size

    @classmethod
    def of(cls, size: int | Framing | None) -> Framing:
        """Return a framing itself, or CLIP's for a side in pixels."""
        return size if isinstance(size, Framing) else cls(size)

    def __str__(self) -> str:
        """In words that differ where framings differ."""
        if self.mode == "shortest":
            return f"shorter side {self.resize or self.size}, {self.interpolation}, centre {self.size}"
        return f"{self.mode} {self.size}, {self.interpolation}"

    def pixels(self, image: Image.Image, out: Tensor | None = None) -> Tensor:
        """Return [3, size, size] float32 pixels in [0, 1].

        Args:
            image: any PIL image.
            out: [3, size, size] float32 to write into, instead of a new tensor.

        Raises:
            DecodeError: as ``resize_and_crop``.
        """
        if self.size is None or self.mode == "shortest":
            return resize_and_crop(image, self.size, interpolation=self.interpolation, resize=self.resize, out=out)
        image, square = to_rgb(image), (self.size, self.size)
        if self.mode == "squash":
            return to_unit_pixels(np.asarray(_scaled(image, square, self.interpolation)), out)
        scale = max(image.size) / self.size
        sides = (max(1, round(image.width / scale)), max(1, round(image.height / scale)))
        image = _scaled(image, sides, self.interpolation)
        canvas = Image.new("RGB", square)
        canvas.paste(image, ((self.size - image.width) // 2, (self.size - image.height) // 2))
        return to_unit_pixels(np.asarray(canvas), out)


def _scaled(image: Image.Image, size: tuple[int, int], interpolation: Interpolation) -> Image.Image:
    return image if image.size == size else image.resize(size, FILTERS[interpolation])
