"""Images for the traps: the embedded digits, so faint that 4/255 moves them by a good part of their contrast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from data.sample import MARGIN, digits

TEST_IMAGES = 64  # one image is 1.6 points: "within 2 points" is one image


@dataclass(frozen=True)
class World:
    """A data set made of the embedded digits, its pixels on the 8-bit grid.

    Attributes:
        contrast: of ink against paper, in [0, 1] pixels.
        paper: brightness of the background.
        side: H = W.
        classes: number of digits from 0 on; 20 are all digits, and all digits in dark ink as further classes.
        binary: ink or paper, nothing between.
    wrong_labels: share of training images whose label is another one.
    """

    contrast: float = 0.12
    paper: float = 0.4
    side: int = 8
    classes: int = 10
    binary: bool = False
    wrong_labels: float = 0.0

    def train(self) -> tuple[Tensor, Tensor]:
        """Training images [N, 3, H, W] and labels [N]."""
        return _images(self, "train")

    def test(self) -> tuple[Tensor, Tensor]:
        """The images [64, 3, H, W] and labels [64] that are evaluated."""
        x, y = _images(self, "test")
        return x[:TEST_IMAGES].clone(), y[:TEST_IMAGES].clone()


@cache
def _images(world: World, split: str) -> tuple[Tensor, Tensor]:
    source = digits(split, image_size=world.side)
    ink = (torch.from_numpy(source.pixels.copy()).permute(0, 3, 1, 2) / 255 - MARGIN) / (1 - 2 * MARGIN)
    ink = (ink > 0.5).float() if world.binary else ink
    x, y = world.paper + world.contrast * ink, torch.tensor(source.labels)
    if world.classes > 10:
        dark = 2 * world.paper - x
        x, y = torch.stack([x, dark], 1).flatten(0, 1), torch.stack([y, y + 10], 1).flatten()
    kept = y < world.classes
    x, y = to_grid(x[kept].clamp(0, 1)), y[kept]
    if split == "train" and world.wrong_labels:
        generator = torch.Generator().manual_seed(0)
        wrong = torch.rand(len(y), generator=generator) < world.wrong_labels
        y = torch.where(wrong, torch.randint(0, world.classes, (len(y),), generator=generator), y)
    return x, y


def to_grid(x: Tensor) -> Tensor:
    """x [B, C, H, W] as it is stored, with 8 bits."""
    return (x * 255).round() / 255


FAINT = World()
