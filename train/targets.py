"""FARE's targets, made once: the original encoder's embedding of every clean picture (``data.targets``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from configs.schema import FinetuneConfig
from data.batches import collate_images
from data.home import at_home
from data.images import ShardImages
from data.layouts.listing import ListedImages
from data.plan import sample_indices
from data.source import ImageSource, SelectedImages
from data.target_parts import PartBatches, missing_parts, prepare, write_parts
from data.targeted import TargetedImages
from data.targets import Header, Targets, read_header
from eval.progress import Ticker
from modules.encoders.base import ImageEncoder
from modules.encoders.fingerprint import fingerprint
from train.datamodules import one_pass

TOLERANCE = 1e-5
"""Relative difference, in l2, of a target and what is computed now.  In batches of one size they are equal bit for bit;
other sizes change a ViT's by up to 6e-7, another picture or other weights by far more."""

_COMPARED = 16  # samples that are computed anew at every start


class FrozenTargets(Callback):
    """Has all targets at hand before a training starts, and its pictures bring them along.

    What is missing is made by all processes, each some parts; who is interrupted goes on where it was.  Then a few are
    computed anew and compared, which tells pictures that have changed, or that are changed at random when read.

    Args:
        source: the training's pictures; gets its targets here.
        encoder: the original one, frozen.
        config: names the folder, the batches and the seed of what is compared.
    """

    def __init__(self, source: TargetedImages, encoder: ImageEncoder, config: FinetuneConfig, /) -> None:
        assert config.data.targets is not None
        self.source, self.encoder, self.config = source, encoder, config
        self.folder = at_home(config.data.targets)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make what is missing, open and compare."""
        pictures = self.source.source
        wanted = Header.of(
            pictures.keys,
            encoder=fingerprint(self.encoder),
            pictures=preparation_of(pictures),
            dim=self.encoder.embedding_dim,
        )
        embed = CleanEmbeddings(
            self.encoder.to(trainer.strategy.root_device), max(1, self.config.data.batch_size // trainer.world_size)
        )
        if trainer.is_global_zero:
            prepare(self.folder, wanted)
        trainer.strategy.barrier("targets prepared")
        self._make(trainer, embed, read_header(self.folder))
        trainer.strategy.barrier("targets made")
        self.source.targets = Targets(self.folder, wanted, pictures.keys)
        compare(self.source, embed, seed=self.config.seed + trainer.global_rank)
        self.encoder.to("cpu")  # it has nothing left to do

    def _make(self, trainer: pl.Trainer, embed: CleanEmbeddings, header: Header) -> None:
        missing = missing_parts(self.folder, header)
        trainer.strategy.barrier("targets counted")  # nobody writes before all have looked
        parts = missing[trainer.global_rank :: trainer.world_size]
        if not parts:
            return
        batches = PartBatches(header, parts, embed.batch_size)
        loader = one_pass(self.source.source, batches, workers=self.config.data.workers)
        found = ((batch.key, embed(batch.x).numpy()) for batch in loader)
        total = sum(len(header.rows(part)) for part in parts)
        with Ticker("targets", total, quiet=not trainer.is_global_zero) as ticker:
            for rows in write_parts(self.folder, header, parts, self.source.keys, found):
                ticker.advance(rows)


class CleanEmbeddings:
    """The original encoder in single precision, in batches of the training's own size: results depend on it a little.

    Args:
        encoder: frozen.
        batch_size: pictures that one process trains on at a time; smaller batches are filled up.
    """

    def __init__(self, encoder: ImageEncoder, batch_size: int) -> None:
        self.encoder, self.batch_size = encoder, batch_size
        self.device = next(iter(encoder.state_dict().values())).device

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Embeddings [B, D] float32, on the CPU, of x [B, 3, H, W] in [0, 1]."""
        more = x[-1:].expand(self.batch_size - len(x), -1, -1, -1)
        with _single_precision():
            z = self.encoder.encode_image(torch.cat([x, more]).to(self.device))
        return z[: len(x)].float().cpu()


@contextmanager
def _single_precision() -> Iterator[None]:
    """No TF32 inside, which has ten bits instead of 23."""
    places: Sequence[Any] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def preparation_of(source: ImageSource) -> str:
    """What a source does to a picture before the encoder sees it, in words that differ where it differs."""
    while isinstance(source, SelectedImages):
        source = source.source
    return str(source.framing) if isinstance(source, ShardImages | ListedImages) else "as they are"


def compare(source: TargetedImages, embed: CleanEmbeddings, *, seed: int) -> None:
    """Compute a few targets anew.

    Args:
        source: with its targets.
        embed: computes them.
        seed: of the choice.

    Raises:
        ValueError: one is another than it was.
    """
    count = min(_COMPARED, embed.batch_size, len(source))
    samples = [source[index] for index in sample_indices(seed, 0, count, len(source)).tolist()]
    batch = collate_images(samples)
    assert batch.target is not None
    far = (embed(batch.x) - batch.target).norm(dim=1) / batch.target.norm(dim=1)
    worst = int(far.argmax())
    if not far[worst] <= TOLERANCE:
        raise ValueError(
            f"the target of '{batch.key[worst]}' in '{source.targets.folder}' differs by {float(far[worst]):.1g} "
            "(relative) from what the original encoder computes now: the pictures have changed, or change whenever "
            "they are read; name another folder as data.targets, or none"
        )
