"""The embeddings of whole sets of pictures behind an encoder: galleries, examples, references."""

from __future__ import annotations

import torch
from torch import Tensor

from data.batches import ImageBatch
from data.images import evaluation_batches
from data.source import ImageSource
from eval.progress import Ticker
from modules import noise
from modules.encoders.base import ImageEncoder, frozen

CHUNK = 64
"""Pictures per forward pass, whatever an evaluation's batch size: no number depends on that."""


def embed_source(encoder: ImageEncoder, source: ImageSource, title: str) -> Tensor:
    """[N, D] embeddings of all pictures, in order, in the encoder's evaluation mode.

    A defence that draws noise draws it once for each picture, by its name.

    Args:
        encoder: bare or defended.
        source: of the pictures.
        title: for the progress bar.

    Raises:
        ValueError: a picture cannot be read.
    """
    device, found = next(encoder.parameters()).device, []
    with Ticker(title, len(source)) as ticker, frozen(encoder):
        for batch in evaluation_batches(source, CHUNK):
            found.append(embed_batch(encoder, batch.to(device)))
            ticker.advance(len(batch))
    return torch.cat(found)


@torch.no_grad()
def embed_batch(encoder: ImageEncoder, batch: ImageBatch) -> Tensor:
    """[B, D] embeddings of a batch's pictures, with noise that belongs to their names."""
    with noise.samples(noise.keys_of(batch.key, device=batch.x.device), seed=0):
        return encoder.encode_image(batch.x)
