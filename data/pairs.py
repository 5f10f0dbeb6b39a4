"""One door to all that a prior can be trained from, and a held-out part of it."""

from __future__ import annotations

import numpy as np

from data.captioned import captioned
from data.catalog import open_images
from data.embedding_source import EmbeddingSource, SelectedEmbeddings
from data.embeddings import FORMATS, EmbeddingShards
from data.folder_images import holds_images
from data.framing import Framing
from data.home import at_home
from data.manifest import read_manifest
from data.parquet_npy import ParquetNpy
from data.parquet_npy_layout import is_parquet_npy
from data.plan import sample_indices
from data.reading import Reading
from data.shards import names_shards
from data.source import ImageSource, SelectedImages

Pairs = EmbeddingSource | ImageSource


def open_pairs(
    where: str,
    split: str = "train",
    framing: int | Framing | None = None,
    *,
    skip_bad: bool = False,
    normalise: bool = False,
    values: bool = True,
    in_memory: bool = True,
    reading: Reading | None = None,
) -> Pairs:
    """The pairs of image and text that lie at ``where``: one of ``EmbeddingShards``, ``ParquetNpy``, ``ImageSource``.

    An ``ImageSource`` gives every picture a caption: its own, or one made from its label.

    Args:
        where: a folder of embedding shards, a folder in the layout ``parquet_npy`` (``data.parquet_npy_layout``), or
            pictures as in ``data.catalog.open_images``.
        split: of pictures that have several.
        framing: how a picture becomes a square, or its side in pixels.
        skip_bad: pass over pictures that do not decode and halves of pairs, counted, instead of raising.
        normalise: scale the embeddings of ``parquet_npy`` to unit length; without it, other lengths are a fault.
        values: look through all embeddings for values that no prior should see; False trusts them.
        in_memory: see ``ParquetNpy``.
        reading: order, cache and allowed damage of pictures.

    Raises:
        ValueError: nothing there, or not what it should be.
    """
    folder = at_home(where)
    shards = any(read_manifest(folder, form) for form in FORMATS)
    if normalise and not is_parquet_npy(folder):
        raise ValueError(f"'{where}' is no parquet_npy folder; normalise only serves those")
    if shards:
        return EmbeddingShards(folder, values=values)
    if is_parquet_npy(folder):
        return ParquetNpy(folder, normalise=normalise, values=values, in_memory=in_memory)
    named = where == "digits" or ":" in where or names_shards(where)
    splits = (*folder.glob("nshards.txt"), *folder.glob("*/nshards.txt")) if folder.is_dir() else ()
    if not named and not splits and not holds_images(where, split):
        images = "images (<split>/nshards.txt, or class folders)"
        kinds = f"embedding shards (index.json), parquet_npy (img_emb, metadata), {images}"
        raise ValueError(
            f"no embeddings in '{where}' and no pictures; name a folder of {kinds}, or tars 'x-{{0..9}}.tar'"
        )
    return captioned(open_images(where, split, framing, skip_bad=skip_bad, reading=reading))


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
