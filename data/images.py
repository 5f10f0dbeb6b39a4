"""Pictures from tars, and the two ways to go through a source: evaluation and training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.batches import ImageBatch, ImageSample, StackedSamples, collate_images
from data.block import empty_block
from data.faults import BadShareError
from data.loader import position_loader
from data.plan import PositionBatches
from data.shard_index import IndexedShards
from data.source import ArrayImages as ArrayImages
from data.source import ImageSource as ImageSource
from data.source import check_label
from data.source import choose_images as choose_images
from data.source import images_named as images_named
from data.transforms import (
    DECODE_REASONS,
    IMAGE_EXTENSIONS,
    MAX_PIXELS,
    DecodeError,
    Interpolation,
    decode_image,
    resize_and_crop,
)

log = logging.getLogger(__name__)

_AHEAD = 16  # samples of a batch that the system fetches while others are decoded
_REASONS = (
    *DECODE_REASONS,
    "no picture",
    "several pictures",
    "bad label",
    "bad caption",
    "unreadable",
    "no caption",
)


class ShardImages(ImageSource):
    """Pictures in tars, decoded when asked for; labels from ``.cls``, captions from ``.txt``.

    Args:
        shards: the index of the tars.
        image_size: side in pixels; None keeps each picture's own size.
        skip_bad: for training: an unusable picture is logged once and counted in ``bad()``,
            and the next good one takes its place.  Without it, the first one raises.
        resize, interpolation: see ``resize_and_crop``.
        max_pixels: see ``decode_image``.

    Attributes:
        max_bad: share of bad pictures above which passing over them becomes an error.
    """

    def __init__(
        self,
        shards: IndexedShards,
        image_size: int | None,
        classes: Sequence[str] = (),
        templates: Sequence[str] = (),
        *,
        name: str = "shards",
        skip_bad: bool = False,
        resize: int | None = None,
        interpolation: Interpolation = "bicubic",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(name=name, keys=shards.keys, classes=classes, templates=templates)
        self.shards, self.image_size, self.skip_bad = shards, image_size, skip_bad
        self.resize, self.max_pixels = resize, max_pixels
        self.interpolation: Interpolation = interpolation
        self.max_bad = 1.0
        # One byte per sample, shared by the workers: why it is bad, 0 while it is not.
        self._bad = torch.zeros(len(shards), dtype=torch.uint8).share_memory_()

    def bad(self) -> dict[str, int]:
        """How many different samples have been found bad so far, in all workers, by reason."""
        counts = torch.bincount(self._bad.to(torch.int64), minlength=len(_REASONS) + 1)[1:].tolist()
        return {reason: count for reason, count in zip(_REASONS, counts, strict=True) if count}

    def halves(self) -> dict[str, list[int]]:
        """Samples that are no pair, from the tars' headers alone: {"no picture": indices, "no caption": indices}."""
        pictures, captions = self.shards.having(_is_picture), self.shards.having("txt".__eq__)
        return {
            "no picture": np.flatnonzero(~pictures).tolist(),
            "no caption": np.flatnonzero(pictures & ~captions).tolist(),
        }

    def pass_over(self, indices: Sequence[int], reason: str) -> None:
        """Count these samples as bad, so that with ``skip_bad`` the next good ones take their places."""
        self._bad[list(indices)] = _REASONS.index(reason) + 1
        self.check_share()

    def check_share(self) -> None:
        """Refuse to go on where more pictures have been found bad or lost than ``max_bad`` allows.

        Raises:
            ValueError: how many, of how many, and why.
        """
        lost = self.shards.lost
        bad, total = int(self._bad.count_nonzero()) + lost, len(self) + lost
        if bad > self.max_bad * total:
            reasons = {**self.bad(), **({"lost with damaged shards": lost} if lost else {})}
            told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            raise BadShareError(
                f"{bad} of {total} images of '{self.name}' are bad ({told}), more than data.max_bad = {self.max_bad:g} "
                "allows; robustclip data check lists them; repair them or raise data.max_bad"
            )

    def fetcher(self) -> Callable[[int], None] | None:
        """What has a shard at hand, where some lie elsewhere."""
        return self.shards.fetch if self.shards.remote else None

    def __getitem__(self, index: int) -> ImageSample:
        return self._one(index, None)

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """The samples at ``indices``, in that order: pictures of one size are decoded into one tensor."""
        for i in indices[:_AHEAD]:
            self.shards.expect(i)
        side = self.image_size
        block = None if side is None else empty_block(len(indices), 3, side, side)
        samples = []
        for place, i in enumerate(indices):
            if place + _AHEAD < len(indices):
                self.shards.expect(indices[place + _AHEAD])
            samples.append(self._one(i, None if block is None else block[place]))
        return samples if block is None else StackedSamples(samples, block)

    def _one(self, index: int, out: Tensor | None) -> ImageSample:
        if not self.skip_bad:
            return self._sample(index, out)
        for step in range(len(self)):
            at = (index + step) % len(self)
            if self._bad[at]:
                continue
            try:
                return self._sample(at, out)
            except DecodeError as error:
                self._bad[at] = _REASONS.index(error.reason) + 1
                log.warning("skipped a sample: %s", error)
                self.check_share()
        raise ValueError(f"none of the {len(self)} samples of '{self.name}' can be used: {self.bad()}")

    def _sample(self, i: int, out: Tensor | None) -> ImageSample:
        try:
            return self._decode(i, out)
        except DecodeError as error:
            where = self.shards.where(i)
            detail = f"{error.detail}; {where}" if error.detail else where
            raise DecodeError(error.reason, detail) from error

    def _decode(self, i: int, out: Tensor | None) -> ImageSample:
        extensions = self.shards.extensions(i)
        pictures = list(filter(_is_picture, extensions))
        if len(pictures) != 1:
            raise DecodeError("several pictures" if pictures else "no picture", ", ".join(extensions))
        try:
            content = self.shards.read(i, only=(pictures[0], "cls", "txt"))
        except (OSError, ValueError) as error:
            raise DecodeError("unreadable", str(error)) from error
        image = decode_image(content[pictures[0]], max_pixels=self.max_pixels)
        x = resize_and_crop(image, self.image_size, interpolation=self.interpolation, resize=self.resize, out=out)
        label = _label(content["cls"], len(self.classes)) if "cls" in content else -1
        caption = _text(content["txt"]) if "txt" in content else None
        return ImageSample(x, label, self.keys[i], caption)


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


def _is_picture(extension: str) -> bool:
    return extension.rpartition(".")[2] in IMAGE_EXTENSIONS


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DecodeError("bad caption", "not UTF-8") from error


def _label(content: bytes, classes: int) -> int:
    text = content[:32].decode("ascii", errors="replace").strip()
    try:
        label = int(text)
        check_label(label, classes, "its .cls")
    except ValueError as error:
        raise DecodeError("bad label", f"'{text}' with {classes} classes") from error
    return label
