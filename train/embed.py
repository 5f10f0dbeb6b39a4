"""``robustclip embed``: images and captions become embedding shards for a prior."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from configs.schema import EmbedConfig
from data.batches import EmbeddingBatch
from data.catalog import open_images
from data.embeddings import write_embeddings
from data.images import evaluation_batches
from data.sample import captions
from data.source import ImageSource
from eval.evaluate import fingerprint, load_model
from eval.plan import device_of
from modules.encoders.clip import CLIP


def embed(config: EmbedConfig, out: Path) -> Path:
    """The folder of embedding shards of a data set under an encoder.

    Captions are the samples' own; where they have none, their class names in the set's templates.

    Raises:
        ValueError: model or data cannot be read, or samples have neither caption nor class.
    """
    clip = load_model(config.model).to(device_of(config.device))
    clip.image.freeze()
    source = open_images(config.data.shards, config.data.split, clip.image.image_size)
    metadata = {
        "encoder": fingerprint(clip.image),
        "base": {"name": config.model.name, "pretrained": config.model.pretrained},
        "data": config.data.shards,
        "split": config.data.split,
    }
    write_embeddings(out, _embedded(config, clip, source), metadata)
    return out


@torch.no_grad()
def _embedded(config: EmbedConfig, clip: CLIP, source: ImageSource) -> Iterator[EmbeddingBatch]:
    assert clip.text is not None
    device = next(clip.image.parameters()).device
    first = source[0]
    texts = _own_captions(source) if first.caption is not None else captions(source)
    start = 0
    for batch in evaluation_batches(source, config.data.batch_size):
        prompts = texts[start : start + len(batch)]
        start += len(batch)
        tokens = clip.text.token_states(prompts).cpu() if config.tokens else None
        yield EmbeddingBatch(
            image=F.normalize(clip.image.encode_image(batch.x.to(device)).float(), dim=1).cpu(),
            text=clip.text.encode_text(prompts).cpu(),
            tokens=tokens,
            key=batch.key,
        )


def _own_captions(source: ImageSource) -> list[str]:
    found = [source[i].caption for i in range(len(source))]
    missing = [key for key, caption in zip(source.keys, found, strict=True) if caption is None]
    if missing:
        raise ValueError(f"{len(missing)} samples of {source.name} have no caption, the first is {missing[0]}")
    return [caption or "" for caption in found]
