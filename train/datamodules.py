"""Lightning's door to ``data``: which samples a process reads, from which position on."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from configs.files import ConfigError
from configs.schema import DataConfig
from configs.schema.prior import PriorDataConfig
from configs.schema.training import FinetuneDataConfig
from data.batches import collate_embeddings, collate_images
from data.catalog import open_images
from data.framing import Framing
from data.loader import position_loader
from data.pairs import Pairs
from data.parent import end_with_parent
from data.plan import PositionBatches
from data.reading import Reading
from data.source import ImageSource
from data.stream import ImageStream, open_stream


class PositionedData(pl.LightningDataModule):
    """An endless stream of training batches whose only state is a position.

    Args:
        source: images, or embeddings.
        batch_size: over all processes.
        workers: reading processes per training process.
        seed: of the order.
        accumulate: batches per optimizer step, by which the trainer's step says what was consumed before.
    """

    def __init__(
        self,
        source: Pairs,
        /,
        *,
        batch_size: int,
        workers: int,
        seed: int,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.source, self.workers, self.seed = source, workers, seed
        self.global_batch, self.accumulate = batch_size, accumulate

    def train_dataloader(self) -> Any:
        """This process's share of the stream, from the step on at which the trainer is."""
        trainer = self.trainer
        assert trainer is not None
        start = trainer.global_step * self.accumulate
        if isinstance(self.source, ImageStream):
            loader = self.source.loader(
                batch_size=self.global_batch,
                workers=self.workers,
                seed=self.seed,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                start_batch=start,
            )
            loader.worker_init_fn = leave_signals
            return loader
        batches = PositionBatches(
            n=len(self.source),
            batch_size=self.global_batch,
            seed=self.seed,
            start_position=start * self.global_batch,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            shuffle=self.source.shuffle if isinstance(self.source, ImageSource) else True,
        )
        loader = position_loader(self.source, batches, collate_of(self.source), workers=self.workers, seed=self.seed)
        loader.worker_init_fn = leave_signals
        return loader


def leave_signals(worker: int) -> None:
    """What a queue tells a whole group of processes, those that train answer; they still need what readers read."""
    end_with_parent(signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def reading_of(config: DataConfig | PriorDataConfig) -> Reading:
    """How a recipe has its pictures read.

    Raises:
        ConfigError: a setting that cannot be.
    """
    settings = {name: getattr(config, name) for name in ("order", "window", "max_bad", "cache", "cache_dir")}
    try:
        return Reading(**settings)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def training_images(data: FinetuneDataConfig, framing: Framing, *, labeled: bool = False) -> ImageSource:
    """The images of a fine-tuning.

    Args:
        data: which, and how they are read.
        framing: how an image becomes what the model takes.
        labeled: a sample without a label is bad.

    Raises:
        ConfigError: settings that contradict each other.
        ValueError: nothing there, or not what it should be.
    """
    reading = reading_of(data)
    if not data.stream:
        settings = {"skip_bad": data.skip_bad, "labeled": labeled, "reading": reading}
        return open_images(data.shards, data.split, framing, **settings)
    if data.targets is not None:
        raise ConfigError("data.targets names each image by its number, which a stream has not; leave data.stream out")
    settings = {"skip_bad": data.skip_bad, "labeled": labeled, "buffer": data.buffer, "reading": reading}
    return open_stream(data.shards, data.split, framing, **settings)


def collate_of(source: Pairs) -> Any:
    """What makes a batch of a source's samples."""
    return collate_images if isinstance(source, ImageSource) else collate_embeddings


def whole_batches(count: int, batch_size: int) -> list[list[int]]:
    """All indices 0 .. count - 1 in order, in batches of sizes that differ by one at most: none is nearly empty."""
    parts = -(-count // batch_size)
    edges = [count * i // parts for i in range(parts + 1)]
    return [list(range(first, end)) for first, end in zip(edges, edges[1:], strict=False)]


def one_pass(source: Pairs, batches: Sequence[list[int]], *, workers: int) -> DataLoader[Any]:
    """Those batches of the source once; the global random state is left alone."""
    return DataLoader(
        source,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate_of(source),
        generator=torch.Generator().manual_seed(0),
    )
