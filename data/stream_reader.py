"""One process's part of a stream: its shards, their samples mixed in a buffer, batches of them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch.utils.data import IterableDataset, get_worker_info

from data.addresses import file_name, is_address, shown
from data.batches import ImageBatch, ImageSample, StackedSamples, collate_images
from data.block import empty_block
from data.decoding import Decoding, decode_sample, members_of
from data.fetch_ahead import FetchAhead
from data.plan import sample_index
from data.shards import stream
from data.tars import ShardError
from data.transforms import DecodeError

if TYPE_CHECKING:
    from data.stream import ImageStream

log = logging.getLogger(__name__)

_FRUITLESS = 50  # shards in a row without a sample, besides all of them once


class StreamReader(IterableDataset[ImageBatch]):
    """The batches of one process without end; its workers take turns.

    Args:
        source: of the samples.
        share: samples of a batch.
        seed: of the order.
        first: number of this process's first reader among all.
        readers: of all processes.
        skip: batches that are passed over.
    """

    def __init__(self, source: ImageStream, share: int, seed: int, *, first: int, readers: int, skip: int) -> None:
        self.source, self.share, self.seed = source, share, seed
        self.first, self.readers, self.skip = first, readers, skip

    def __iter__(self) -> Iterator[ImageBatch]:
        info = get_worker_info()
        row, workers = (info.id, info.num_workers) if info else (0, 1)
        mine = (row + self.skip) % workers  # whose turn it was when the run ended
        samples = self._mixed(self.first + mine, row)
        seen = len(range(mine, self.skip, workers)) * self.share
        for _ in islice(samples, seen):
            pass
        while True:
            yield collate_images(self._batch(samples, row))

    def _mixed(self, number: int, row: int) -> Iterator[dict[str, Any]]:
        import webdataset

        rng = Random(f"{self.seed}/{number}")
        mix = webdataset.shuffle(self.source.buffer, initial=self.source.buffer, rng=rng)  # pyright: ignore[reportAttributeAccessIssue]
        return iter(mix(self._samples(number, row)))

    def _samples(self, number: int, row: int) -> Iterator[dict[str, Any]]:
        """The samples of one reader, epoch after epoch, from the shards that fall to it."""
        source, counts = self.source, Counter[str]()
        rejected = counts if source.skip_bad else None
        fruitless = 0
        for url in self._shards(number):
            fruitless += 1
            for sample in stream([url], rejected, opened=self._opened):
                fruitless = 0
                yield {**sample, "__key__": f"{Path(file_name(url)).stem}/{sample['__key__']}"}
            for reason, times in counts.items():
                source.faults.note(row, reason, times)
            if counts["damaged shard"]:
                log.warning("a damaged shard was left at its fault: %s", shown(url))
            counts.clear()
            if fruitless > len(source.urls) + _FRUITLESS:
                raise ShardError(f"the {len(source.urls)} shards of '{source.name}' hold no samples")

    def _shards(self, number: int) -> Iterator[str]:
        """The addresses of one reader's shards without end; the next one is fetched while one is read."""
        urls, ahead = self.source.urls, FetchAhead(self._fetch)
        mine = (sample_index(self.seed, place, len(urls)) for place in count(number, self.readers))
        now = next(mine)
        try:
            while True:
                following = next(mine)
                if is_address(urls[following]):
                    ahead.want([following])
                yield urls[now]
                now = following
        finally:
            ahead.close()

    def _fetch(self, number: int) -> None:
        self.source.cache.fetch(self.source.urls[number])

    def _opened(self, url: str) -> BinaryIO:
        return os.fdopen(self.source.cache.open(url), "rb") if is_address(url) else Path(url).open("rb")

    def _batch(self, samples: Iterator[dict[str, Any]], row: int) -> StackedSamples:
        """The next samples; the place of a bad one is taken by the next good one among them."""
        source, side = self.source, self.source.how.framing.size
        assert side is not None
        block = empty_block(self.share, 3, side, side)
        found: list[ImageSample | None] = [None] * self.share
        while not any(found):
            for place, sample in enumerate(islice(samples, self.share)):
                source.faults.note(row, "samples")
                try:
                    found[place] = _decoded(sample, source.how, block[place])
                except DecodeError as error:
                    if not source.skip_bad:
                        raise
                    log.warning("skipped a sample: %s", error)
                    source.faults.note(row, error.reason)
                    source.faults.check()
        good = [place for place, sample in enumerate(found) if sample is not None]
        chosen = [next((other for other in good if other >= place), good[0]) for place in range(self.share)]
        for place in set(range(self.share)).difference(good):
            block[place] = block[chosen[place]]
        return StackedSamples((sample for place in chosen if (sample := found[place]) is not None), block)


def _decoded(sample: dict[str, Any], how: Decoding, out: torch.Tensor) -> ImageSample:
    key = sample["__key__"]
    try:
        return decode_sample(sample, members_of(name for name in sample if name != "__key__"), key, how, out)
    except DecodeError as error:
        raise DecodeError(error.reason, f"{error.detail}; key '{key}'" if error.detail else f"key '{key}'") from error
