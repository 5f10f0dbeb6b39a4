"""Pictures from tars, and the two ways to go through a source: evaluation and training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from data.batches import ImageBatch, ImageSample, StackedSamples, collate_images
from data.block import empty_block
from data.decoded import DecodedImages
from data.decoding import Decoding, decode_sample, is_caption, is_picture, members_of
from data.framing import Framing
from data.loader import position_loader
from data.plan import PositionBatches
from data.shard_index import IndexedShards
from data.source import ArrayImages as ArrayImages
from data.source import ImageSource as ImageSource
from data.source import choose_images as choose_images
from data.source import images_named as images_named
from data.transforms import MAX_PIXELS, DecodeError

_AHEAD = 16  # samples of a batch that the system fetches while others are decoded


class ShardImages(DecodedImages):
    """Pictures in tars, decoded when asked for; labels from ``.cls``, captions from ``.txt``.

    Args:
        shards: the index of the tars.
        framing: how a picture becomes a square, or the square's side in pixels; None keeps each picture's own size.
        skip_bad: see ``DecodedImages``.
        labeled: a sample without a label is bad.
        max_pixels: see ``decode_image``.
    """

    def __init__(
        self,
        shards: IndexedShards,
        framing: int | Framing | None,
        classes: Sequence[str] = (),
        templates: Sequence[str] = (),
        *,
        name: str = "shards",
        skip_bad: bool = False,
        labeled: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(
            name=name,
            keys=shards.keys,
            classes=classes,
            templates=templates,
            skip_bad=skip_bad,
            lost=shards.lost,
            refused=shards.rejected,
        )
        self.shards, self.framing, self.places = shards, Framing.of(framing), tuple(shards.shards)
        self.labeled, self.max_pixels = labeled, max_pixels

    def halves(self) -> dict[str, list[int]]:
        """Samples that are no pair, from the tars' headers alone: {"no picture": indices, "no caption": indices}."""
        pictures, captions = self.shards.having(is_picture), self.shards.having(is_caption)
        return {
            "no picture": np.flatnonzero(~pictures).tolist(),
            "no caption": np.flatnonzero(pictures & ~captions).tolist(),
        }

    def fetcher(self) -> Callable[[int], None] | None:
        """What has a shard at hand, where some lie elsewhere."""
        return self.shards.fetch if self.shards.remote else None

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """The samples at ``indices``, in that order: pictures of one size are decoded into one tensor."""
        for i in indices[:_AHEAD]:
            self.shards.expect(i)
        side = self.framing.size
        block = None if side is None else empty_block(len(indices), 3, side, side)
        samples = []
        for place, i in enumerate(indices):
            if place + _AHEAD < len(indices):
                self.shards.expect(indices[place + _AHEAD])
            samples.append(self._good(i, None if block is None else block[place]))
        return samples if block is None else StackedSamples(samples, block)

    def _sample(self, index: int, out: Tensor | None) -> ImageSample:
        try:
            return self._decode(index, out)
        except DecodeError as error:
            where = self.shards.where(index)
            detail = f"{error.detail}; {where}" if error.detail else where
            raise DecodeError(error.reason, detail) from error

    def _decode(self, i: int, out: Tensor | None) -> ImageSample:
        members = members_of(self.shards.extensions(i))
        try:
            content = self.shards.read(i, only=members.all)
        except (OSError, ValueError) as error:
            raise DecodeError("unreadable", str(error)) from error
        how = Decoding(self.framing, self.max_pixels, len(self.classes), self.labeled)
        return decode_sample(content, members, self.keys[i], how, out)


def evaluation_batches(
    source: ImageSource,
    batch_size: int,
    limit: int | None = None,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[ImageBatch]:
    """The first ``limit`` samples in order, each exactly once; ranks take turns, maybe unevenly."""
    count = len(source) if limit is None else min(limit, len(source))
    mine = range(rank, count, world_size)
    for start in range(0, len(mine), batch_size):
        yield collate_images(source.__getitems__(mine[start : start + batch_size]))


def training_loader(
    source: ImageSource,
    sampler: PositionBatches,
    workers: int,
    seed: int,
    *,
    pin_memory: bool = False,
) -> DataLoader[ImageBatch]:
    """``ImageBatch``es in the sampler's order; see ``position_loader``."""
    return position_loader(source, sampler, collate_images, workers=workers, seed=seed, pin_memory=pin_memory)
