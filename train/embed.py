"""``robustclip embed``: images and captions become embedding shards for a prior."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.schema import EmbedConfig
from data.batches import EmbeddingBatch, ImageBatch, collate_embeddings
from data.embedding_source import EmbeddingSource
from data.embeddings import write_embeddings
from data.images import training_loader
from data.pairs import open_pairs
from data.plan import PositionBatches
from data.source import ImageSource
from eval.evaluate import fingerprint, load_model
from eval.framing import framing_of
from eval.plan import device_of
from modules.encoders.clip import CLIP
from train.datamodules import reading_of

log = logging.getLogger(__name__)

_SAME_TEXT = 0.95  # cosine of a caption's stored embedding and ours; half precision stays above 0.999
_COMPARED = 256  # captions compared


def embed(config: EmbedConfig, out: Path) -> Path:
    """The folder of embedding shards of a data set under an encoder.

    Captions are the samples' own; where they have none, their class names in the set's templates.  Of embeddings that
    exist already, the images' are taken as they are and the captions are encoded.

    Raises:
        ValueError: model or data cannot be read, samples have neither caption nor class, or stored embeddings are not
            of the model's dimension or its text tower.
    """
    clip = load_model(config.model).to(device_of(config.device))
    if clip.text is None:
        raise ValueError(f"{clip.name} has no text tower, and a prior is trained on pairs of image and text")
    clip.image.freeze()
    data = config.data
    source = open_pairs(
        data.shards,
        data.split,
        framing_of(clip.image),
        skip_bad=data.skip_bad,
        normalise=data.normalise,
        in_memory=False,
        reading=reading_of(data),
    )
    metadata: dict[str, Any] = {
        "encoder": fingerprint(clip.image),
        "base": {"name": config.model.name, "pretrained": config.model.pretrained},
        "data": data.shards,
        "split": data.split,
    }
    if isinstance(source, ImageSource):
        batches = _of_images(config, clip, source)
    else:
        _check_stored(source, clip, data.shards, data.batch_size)
        metadata["encoder"] = metadata["encoder"] if data.same_encoder else source.metadata.get("encoder")
        metadata["images"] = {"taken_from": source.metadata}
        batches = _of_embeddings(config, clip, source)
    write_embeddings(out, batches, metadata)
    return out


@torch.no_grad()
def _of_images(config: EmbedConfig, clip: CLIP, source: ImageSource) -> Iterator[EmbeddingBatch]:
    device = next(clip.image.parameters()).device
    size, total = config.data.batch_size, len(source)
    order = PositionBatches(n=total, batch_size=size, seed=0, shuffle=False, limit=-(-total // size))
    for number, loaded in enumerate(training_loader(source, order, config.data.workers, seed=0)):
        wanted = source.keys[number * size : (number + 1) * size]
        # The last batch starts anew at the first sample, and another's place is taken by the next good one.
        batch = loaded.select([i for i, key in enumerate(wanted) if loaded.key[i] == key])
        if not len(batch):
            continue
        image = F.normalize(clip.image.encode_image(batch.x.to(device)).float(), dim=1).cpu()
        yield _with_text(config, clip, image, batch)
    if bad := source.bad():
        log.warning("left out of %d samples: %s", total, bad)


@torch.no_grad()
def _of_embeddings(config: EmbedConfig, clip: CLIP, source: EmbeddingSource) -> Iterator[EmbeddingBatch]:
    for start in range(0, len(source), config.data.batch_size):
        batch = _stored(source, start, start + config.data.batch_size)
        yield _with_text(config, clip, batch.image, batch)


def _with_text(config: EmbedConfig, clip: CLIP, image: Tensor, batch: ImageBatch | EmbeddingBatch) -> EmbeddingBatch:
    assert clip.text is not None and batch.caption is not None
    return EmbeddingBatch(
        image=image,
        text=clip.text.encode_text(batch.caption).cpu(),
        tokens=clip.text.token_states(batch.caption).cpu() if config.text == "tokens" else None,
        key=batch.key,
        caption=batch.caption if config.text == "caption" else None,
    )


@torch.no_grad()
def _check_stored(source: EmbeddingSource, clip: CLIP, where: str, batch_size: int) -> None:
    """Refuse stored embeddings that cannot be the model's; a text tower of other weights betrays itself."""
    assert clip.text is not None
    dim = clip.image.embedding_dim
    if source.dim != dim:
        raise ValueError(f"the embeddings in '{where}' have dimension {source.dim}, those of the model {dim}")
    if not source.has_captions:
        raise ValueError(f"'{where}' keeps no captions to encode; embed its images with text=caption")
    first = _stored(source, 0, min(_COMPARED, batch_size))
    if first.text is None:
        return
    ours = clip.text.encode_text(first.caption or ()).cpu()
    cosine = float(F.cosine_similarity(ours, first.text, dim=1).median())
    if cosine < _SAME_TEXT:
        raise ValueError(
            f"the text embeddings in '{where}' are not those of the model: their cosine with its own is {cosine:.2f}; "
            "name the model that made them"
        )


def _stored(source: EmbeddingSource, start: int, stop: int) -> EmbeddingBatch:
    return collate_embeddings(source.__getitems__(range(start, min(stop, len(source)))))
