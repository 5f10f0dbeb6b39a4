"""Sets put together of others: near copies of pictures, and several sources with a label each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from data.batches import ImageSample
from data.source import ImageSource

KEPT = 0.92
"""Share of a side that a near copy keeps of its picture."""


class NearCopies(ImageSource):
    """Every picture cut a little at its edges and scaled back: what an honest copy on the web looks like.

    Where the cut lies is drawn from the picture's name; nothing else is.

    Args:
        source: the originals.
        prefix: of the names of the copies.
    """

    def __init__(self, source: ImageSource, *, prefix: str = "copy of ") -> None:
        keys = [prefix + key for key in source.keys]
        super().__init__(name=f"copies of {source.name}", keys=keys, classes=source.classes, templates=())
        self.source = source

    def __getitem__(self, index: int) -> ImageSample:
        sample = self.source[index]
        side = sample.x.shape[-1]
        cut = max(1, round(side * KEPT))
        drawn = hashlib.blake2b(self.keys[index].encode(), digest_size=4).digest()
        top, left = (int.from_bytes(part, "big") % (side - cut + 1) for part in (drawn[:2], drawn[2:]))
        part = sample.x[None, :, top : top + cut, left : left + cut]
        x = F.interpolate(part, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
        return ImageSample(x[0].clamp(0, 1), sample.y, self.keys[index])


class LabelledSources(ImageSource):
    """Several sources behind one another; a sample's label is the number of its source.

    Args:
        sources: one for each class.
        classes: their names.
        name: for reports.

    Raises:
        ValueError: two samples have one name.
    """

    def __init__(self, sources: Sequence[ImageSource], classes: Sequence[str], *, name: str) -> None:
        keys = [key for source in sources for key in source.keys]
        super().__init__(name=name, keys=keys, classes=classes, templates=())
        if len(set(keys)) < len(keys):
            raise ValueError(f"'{name}': a picture stands on both sides; name sets that share none")
        self.sources = list(sources)
        self._ends = torch.tensor([len(source) for source in sources]).cumsum(0)

    def __getitem__(self, index: int) -> ImageSample:
        label = int(torch.searchsorted(self._ends, index, right=True))
        start = int(self._ends[label]) - len(self.sources[label])
        sample = self.sources[label][index - start]
        return ImageSample(sample.x, label, self.keys[index])
