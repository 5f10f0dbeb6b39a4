"""One door to all that a prior can be trained from, and a held-out part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.catalog import open_images
from data.embedding_source import EmbeddingSource, SelectedEmbeddings
from data.embeddings import EmbeddingShards
from data.manifest import MANIFEST
from data.plan import sample_indices
from data.source import ImageSource, SelectedImages

Pairs = EmbeddingSource | ImageSource


def open_pairs(where: str, split: str = "train", image_size: int | None = None) -> Pairs:
    """The pairs of image and text that lie at ``where``.

    Args:
        where: a folder of embedding shards, or captioned images as in ``data.catalog.open_images``.
        split: of images that have several.
        image_size: side in pixels of images.

    Raises:
        ValueError: nothing there, or not what it should be.
    """
    folder = Path(where).expanduser()
    if (folder / MANIFEST).is_file():
        return EmbeddingShards(folder)
    return open_images(where, split, image_size)


def hold_out(source: Pairs, count: int, *, seed: int) -> tuple[Pairs, Pairs]:
    """A training part and a validation part of ``source`` that share no sample: (the rest, ``count`` samples).

    Drawn over the whole source by ``seed`` alone, so a resumed run holds out the same samples.  Both keep the source's
    order and attributes; memory grows with ``count``, not with the source (images: with their names).

    Args:
        source: to divide.
        count: samples of the validation part, 1 .. len(source) - 1.
        seed: of the draw.

    Raises:
        ValueError: a count that leaves one of the parts empty.
    """
    if not 0 < count < len(source):
        raise ValueError(f"cannot hold {count} of {len(source)} samples out; choose 1..{len(source) - 1}")
    chosen = np.sort(sample_indices(seed, 0, count, len(source)))
    if isinstance(source, ImageSource):
        rest = np.delete(np.arange(len(source)), chosen)
        return SelectedImages(source, rest.tolist()), SelectedImages(source, chosen.tolist())
    return SelectedEmbeddings(source, chosen, rest=True), SelectedEmbeddings(source, chosen)
