"""A look at every picture of some shards: what they hold, and what is wrong with them."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from data.catalog import locate
from data.decoding import Decoding, caption_text, label_of, members_of
from data.framing import Framing
from data.progress import track
from data.shard_cache import ShardCache
from data.shard_index import IndexedShards
from data.shard_statistics import ShardStatistics
from data.transforms import FORMATS, DecodeError, decode_image

_LEVELS = np.arange(256) / 255


def shard_statistics(shards: str, split: str, *, workers: int = 0, cache: ShardCache | None = None) -> dict[str, Any]:
    """What some shards hold, as JSON: see ``ShardStatistics.plain``; with a few groups of duplicates by shard and key.

    Args:
        shards, split: as in ``data.catalog.open_images``.
        workers: processes that decode; 0 decodes in this one.
        cache: for shards elsewhere.

    Raises:
        ValueError: no such shards.
    """
    found = locate(shards, split, cache)
    each = _Statistics(found.urls, len(found.classes), cache)
    loader = DataLoader(each, batch_size=None, shuffle=False, num_workers=min(workers, len(each)))
    whole = ShardStatistics()
    for part in track(loader, "look at the shards", len(each)):
        whole.add(part)
    if not whole.samples:
        raise ValueError(f"none of the {len(each)} shards of '{shards}' can be read; the first: {whole.faults[0]}")
    known: dict[int, IndexedShards] = {}
    told = []
    for group in whole.groups():
        for shard, _ in group:
            known.setdefault(shard, each.opened(shard))
        told.append([known[shard].where(row) for shard, row in group])
    return {**whole.plain(found.classes), "duplicate_groups": told}


class _Statistics(Dataset[ShardStatistics]):
    """The statistics of each shard, by number."""

    def __init__(self, urls: Sequence[str], classes: int, cache: ShardCache | None) -> None:
        self.urls, self.classes, self.cache = list(urls), classes, cache

    def __len__(self) -> int:
        return len(self.urls)

    def opened(self, number: int) -> IndexedShards:
        """The index of a shard."""
        logger = logging.getLogger("data")
        level = logger.level
        logger.setLevel(logging.ERROR)  # what is wrong is counted here
        try:
            return IndexedShards([self.urls[number]], skip_bad=True, cache=self.cache)
        finally:
            logger.setLevel(level)

    def __getitem__(self, number: int) -> ShardStatistics:
        found = ShardStatistics(shards=1)
        try:
            index = self.opened(number)
        except ValueError as error:
            found.rejected["unreadable shard"] += 1
            found.faults.append(str(error))
            return found
        found.samples, found.bytes = len(index), sum(index.sizes())
        found.rejected.update(index.rejected)
        hashes, rows = [], []
        how = Decoding(Framing(), classes=self.classes)
        for i in range(len(index)):
            try:
                hashes.append(_look(index, i, how, found))
                rows.append(i)
            except DecodeError as error:
                found.bad[error.reason] += 1
        found.hashes, found.rows = [np.array(hashes, dtype=np.uint64)], [np.array(rows, dtype=np.int64)]
        return found


def _look(index: IndexedShards, i: int, how: Decoding, found: ShardStatistics) -> int:
    """The hash of a sample's picture, which is counted in ``found``.

    Raises:
        DecodeError: it is bad.
    """
    members = members_of(index.extensions(i))
    try:
        content = index.read(i, only=members.all)
    except (OSError, ValueError) as error:
        raise DecodeError("unreadable", str(error)) from error
    data = content[members.picture]
    image = decode_image(data, max_pixels=how.max_pixels)
    label = -1 if members.label is None else label_of(content[members.label], how.classes)
    caption = None if members.caption is None else caption_text(content[members.caption])
    pixels = np.asarray(image)
    for channel in range(3):
        counts = np.bincount(pixels[:, :, channel].ravel(), minlength=256)
        found.sums[channel] += float((counts * _LEVELS).sum())
        found.squares[channel] += float((counts * _LEVELS**2).sum())
    found.pixels += image.width * image.height
    found.sizes[image.width, image.height] += 1
    found.formats[_format(data)] += 1
    found.labels[label] += 1
    found.captions += caption is not None
    found.picture_bytes += len(data)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _format(data: bytes) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=FORMATS).format or "?"
