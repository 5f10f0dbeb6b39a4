"""Images from tars that are read one after the other, without index files: for shards that are not to be indexed.

Nothing is read before the training starts, and nothing but the shards themselves.  The price: samples are mixed within
a buffer only, a run that goes on passes over what it has seen, and no sample can be asked for by its number, so that
nothing is evaluated from a stream.
"""

from __future__ import annotations

import logging

import torch
from torch.utils.data import DataLoader

from data.batches import ImageBatch
from data.catalog import locate
from data.decoding import Decoding
from data.folder_images import holds_images
from data.framing import Framing
from data.reading import Reading
from data.shard_cache import ShardCache
from data.source import ImageSource
from data.stream_faults import StreamFaults
from data.stream_reader import StreamReader

log = logging.getLogger(__name__)


class ImageStream(ImageSource):
    """Pictures that come one after the other; ``open_stream`` makes it.

    Args:
        urls: of the tars.
        how: pictures become pixels.
        name, classes, templates: as of any source.
        skip_bad: count bad pictures and damaged shards, and go on.
        buffer: samples of each reading process that are mixed, kept as they are in the tars.
        cache: for shards elsewhere, which are fetched whole, the next one while one is read.

    Attributes:
        faults: what was bad so far.
    """

    def __init__(
        self,
        urls: list[str],
        how: Decoding,
        *,
        name: str,
        classes: list[str],
        templates: list[str],
        skip_bad: bool,
        buffer: int,
        cache: ShardCache,
    ) -> None:
        super().__init__(name=name, keys=(), classes=classes, templates=templates)
        if buffer < 1:
            raise ValueError(f"data.buffer of {buffer} samples is too small; choose 1 or more")
        self.urls, self.how, self.skip_bad, self.buffer, self.cache = urls, how, skip_bad, buffer, cache
        self.bad_samples = self.faults = StreamFaults(name)

    def __len__(self) -> int:
        raise TypeError(f"the stream '{self.name}' does not know how many samples it has; only training reads streams")

    def loader(
        self, *, batch_size: int, workers: int, seed: int, rank: int = 0, world_size: int = 1, start_batch: int = 0
    ) -> DataLoader[ImageBatch]:
        """This process's batches, without end, so that all processes make equally many steps.

        Shards are dealt out anew in each epoch to all reading processes of all ranks; the same numbers of them give the
        same batches.

        Args:
            batch_size: of all processes together.
            workers: reading processes of this process.
            seed: of the order.
            rank, world_size: of this process, and how many there are.
            start_batch: batches that were consumed before; they are passed over, which is said once.

        Raises:
            ValueError: a batch size that the processes cannot share equally.
        """
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"a batch size of {batch_size} cannot be shared equally by {world_size} processes; "
                f"choose a multiple of {world_size}"
            )
        if start_batch and not rank:
            seen = start_batch * batch_size
            log.warning("a stream goes on by passing over the %d samples that were seen; shards are read for it", seen)
        self.faults.read_by(workers)
        readers, share = max(workers, 1), batch_size // world_size
        reader = StreamReader(self, share, seed, first=rank * readers, readers=world_size * readers, skip=start_batch)
        generator = torch.Generator().manual_seed(seed)
        return DataLoader(
            reader, batch_size=None, num_workers=workers, generator=generator, persistent_workers=workers > 0
        )


def open_stream(
    shards: str,
    split: str,
    framing: int | Framing,
    *,
    skip_bad: bool = False,
    labeled: bool = False,
    buffer: int = 1000,
    reading: Reading,
) -> ImageStream:
    """The stream of the pictures that ``shards`` names; nothing of the shards is read yet.

    Args:
        shards, split: as in ``data.catalog.open_images``.
        framing: how a picture becomes a square, or its side in pixels.
        skip_bad: count and pass over damaged shards and pictures, instead of raising.
        labeled: a sample without a label is bad.
        buffer: see ``ImageStream``.
        reading: cache and allowed damage.

    Raises:
        ValueError: nothing there, or an order that a stream cannot have.
    """
    if shards == "digits":
        raise ValueError("'digits' is embedded and has no shards to stream; leave data.stream out")
    if reading.order is not None:
        raise ValueError(
            f"data.order={reading.order} needs an index, which a stream has not; leave it or data.stream out"
        )
    if holds_images(shards, split):
        raise ValueError(f"'{shards}' is a folder of images, which are not streamed; leave data.stream out")
    cache = reading.shard_cache()
    found = locate(shards, split, cache)
    how = Decoding(Framing.of(framing), classes=len(found.classes), labeled=labeled)
    source = ImageStream(
        found.urls,
        how,
        name=found.name,
        classes=found.classes,
        templates=found.templates,
        skip_bad=skip_bad,
        buffer=buffer,
        cache=cache,
    )
    source.faults.max_share = reading.max_bad
    return source
