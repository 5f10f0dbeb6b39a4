"""Lightning's door to ``data``: which samples a process reads, from which position on."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from data.embeddings import EmbeddingShards, embedding_loader
from data.images import training_loader
from data.plan import PositionBatches
from data.source import ImageSource


class PositionedData(pl.LightningDataModule):
    """An endless stream of training batches whose only state is a position.

    Args:
        source: images, or embeddings.
        batch_size: over all processes.
        workers: reading processes per training process.
        seed: of the order.
        start_batch: batches that were consumed before.
    """

    def __init__(
        self,
        source: ImageSource | EmbeddingShards,
        /,
        *,
        batch_size: int,
        workers: int,
        seed: int,
        start_batch: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.workers, self.seed = source, workers, seed
        self.global_batch, self.start_batch = batch_size, start_batch

    def train_dataloader(self) -> Any:
        """This process's share of the stream."""
        trainer = self.trainer
        assert trainer is not None
        batches = PositionBatches(
            n=len(self.source),
            batch_size=self.global_batch,
            seed=self.seed,
            start_position=self.start_batch * self.global_batch,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        if isinstance(self.source, EmbeddingShards):
            return embedding_loader(self.source, batches, self.workers, self.seed)
        return training_loader(self.source, batches, self.workers, self.seed)
