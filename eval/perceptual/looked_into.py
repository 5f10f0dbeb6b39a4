"""Two ways to look into encoders of digits: ten names out of grey, and digits that are asked to become others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from eval.perceptual.legible import Legible, Reading
from eval.progress import Ticker
from modules.encoders.base import ImageEncoder
from modules.perceptual.inversion import Inversion, Inverting, invert
from modules.zero_shot import ZeroShotHead


@dataclass(frozen=True)
class LookedInto:
    """What encoders came to from one start.

    Attributes:
        how: the search.
        start: [B, 3, H, W] pictures.
        was: [B] classes of the start; -1 where it shows nothing.
        asked: [B] classes that were looked for.
        found: by encoder, the inversions.
        legible: by encoder, what is to be seen on them.
        said: by encoder, [B] classes that the first reader sees.
    """

    how: Inverting
    start: Tensor
    was: Tensor
    asked: Tensor
    found: dict[str, Inversion]
    legible: dict[str, Legible]
    said: dict[str, Tensor]


def out_of_grey(
    encoders: Mapping[str, ImageEncoder], head: ZeroShotHead, reading: Reading, how: Inverting, *, seeds: int
) -> LookedInto:
    """Inversions of every class name from grey; the first K are of the first seed, in the order of the classes.

    Args:
        encoders: by name.
        head: whose K class embeddings are the targets.
        reading: who looks at them.
        how: the search.
        seeds: random numbers of their own for so many inversions of each class.
    """
    asked = torch.arange(len(head.classes)).repeat(seeds)
    size = next(iter(encoders.values())).image_size
    grey = torch.full((len(asked), 3, size, size), 0.5)
    return _look(encoders, head, reading, how, grey, torch.full_like(asked, -1), asked)


def into_another(
    encoders: Mapping[str, ImageEncoder],
    head: ZeroShotHead,
    reading: Reading,
    how: Inverting,
    x: Tensor,
    y: Tensor,
) -> LookedInto:
    """Pictures x [B, 3, H, W] of classes y [B], each asked to become another class, all others in turn.

    Args:
        encoders: by name.
        head: whose K class embeddings are the targets.
        reading: who looks at them.
        how: the search.
        x: pictures to start from.
        y: their classes.
    """
    count = len(head.classes)
    asked = (y + 1 + torch.arange(len(y)) % (count - 1)) % count
    return _look(encoders, head, reading, how, x, y, asked)


def _look(
    encoders: Mapping[str, ImageEncoder],
    head: ZeroShotHead,
    reading: Reading,
    how: Inverting,
    start: Tensor,
    was: Tensor,
    asked: Tensor,
) -> LookedInto:
    found = {}
    for name, encoder in encoders.items():
        with Ticker(f"invert {name}", how.steps) as ticker:
            targets = head.weights[asked]
            found[name] = invert(
                encoder, targets, how, start=start, snapshots=6, on_step=lambda ticker=ticker: ticker.advance(1)
            )
    legible = {name: reading.of(one, start, asked) for name, one in found.items()}
    said = {name: next(iter(reading.readers(one.x).values())) for name, one in found.items()}
    return LookedInto(how, start, was, asked, found, legible, said)
