"""Galleries: labelled pictures that are searched, and what is relevant to a query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from data.benchmarks.finding import labels_of
from data.catalog import open_images
from data.framing import Framing
from data.home import at_home
from data.layouts.listing import FilePictures, ListedImages, Listing
from data.source import ArrayImages, ImageSource, SelectedImages, missing_classes
from data.transforms import IMAGE_EXTENSIONS


def open_labelled(place: str, split: str, framing: int | Framing) -> ImageSource:
    """The labelled pictures of a place.

    Args:
        place, split: as in ``data.catalog.open_images``.
        framing: how a picture becomes a square, or its side in pixels.

    Raises:
        ValueError: nothing there, or pictures without classes.
    """
    source = open_images(place, split, framing)
    if not source.classes:
        raise ValueError(f"'{place}' names no classes; {missing_classes(source)}")
    return source


def open_reference(place: str, split: str, framing: int | Framing) -> ImageSource:
    """The pictures of a reference set: as ``open_labelled``, or a folder of pictures without classes.

    Raises:
        ValueError: as ``open_labelled``.
    """
    root = at_home(place)
    for folder in (root / split, root):
        found = (
            sorted(p for p in folder.iterdir() if p.suffix[1:].lower() in IMAGE_EXTENSIONS) if folder.is_dir() else []
        )
        if found:
            listing = Listing([p.name for p in found], [0] * len(found), ["reference"], FilePictures(found), "pictures")
            return ListedImages(listing, Framing.of(framing), name=root.name)
    return open_labelled(place, split, framing)


def all_labels(source: ImageSource) -> np.ndarray:
    """[N] the label of every picture, without decoding one; -1 where it has none."""
    if isinstance(source, SelectedImages):
        return all_labels(source.source)[source.indices]
    return np.asarray(source.labels if isinstance(source, ArrayImages) else labels_of(source), dtype=np.int64)


def of_class(source: ImageSource, name: str, *, others: bool = False) -> ImageSource:
    """The pictures of one class, or all others.

    Raises:
        ValueError: no such class, or no picture is left.
    """
    if name not in source.classes:
        raise ValueError(f"'{source.name}' has no class {name!r}; it has {', '.join(source.classes)}")
    labels = all_labels(source)
    kept = np.flatnonzero((labels == source.classes.index(name)) != others)
    if len(kept) == 0:
        raise ValueError(f"'{source.name}' has no picture {'beside' if others else 'of'} class {name!r}")
    return SelectedImages(source, kept.tolist())


class Relevance(ABC):
    """What is relevant to each query of a gallery of ``size`` items, and what does not count.

    Attributes:
        size: N items of the gallery.
        difficulties: of which relevance depends; empty where it is one.
    """

    size: int
    difficulties: tuple[str, ...] = ()

    @abstractmethod
    def of(self, key: str, difficulty: str) -> tuple[np.ndarray, np.ndarray]:
        """Places in the gallery of what is relevant to a query, and of what is ignored."""

    def masks(self, keys: Sequence[str], difficulty: str) -> tuple[Tensor, Tensor]:
        """[B, N] bool twice: what is relevant to each query, and what is ignored."""
        found = torch.zeros(2, len(keys), self.size, dtype=torch.bool)
        for row, key in enumerate(keys):
            for side, places in enumerate(self.of(key, difficulty)):
                found[side, row, torch.from_numpy(places)] = True
        return found[0], found[1]

    def answerable(self, keys: Sequence[str], difficulty: str) -> list[int]:
        """Places of the queries that have something relevant and something wrong."""
        return [i for i, key in enumerate(keys) if 0 < self._relevant(key, difficulty) < self._counted(key, difficulty)]

    def _relevant(self, key: str, difficulty: str) -> int:
        return len(self.of(key, difficulty)[0])

    def _counted(self, key: str, difficulty: str) -> int:
        return self.size - len(self.of(key, difficulty)[1])


class ClassRelevance(Relevance):
    """Pictures of the query's class are relevant; the query itself, where the gallery holds it, is ignored.

    Args:
        queries: by key, the class of each query in the gallery's numbers.
        labels: [N] classes of the gallery.
        own: by key, the place of the query in the gallery; empty where it holds none.
    """

    def __init__(self, queries: Mapping[str, int], labels: np.ndarray, own: Mapping[str, int] | None = None) -> None:
        self.queries, self.labels, self.own, self.size = dict(queries), labels, dict(own or {}), len(labels)
        self._places = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}

    def of(self, key: str, difficulty: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Places of the same class, and the query's own."""
        relevant = self._places.get(self.queries[key], np.empty(0, dtype=np.int64))
        ignored = np.array([self.own[key]] if key in self.own else [], dtype=np.int64)
        return relevant[~np.isin(relevant, ignored)], ignored


def class_relevance(queries: ImageSource, gallery: ImageSource, *, same: bool) -> ClassRelevance:
    """Relevance by class, matched by name.

    Args:
        queries: with labels.
        gallery: with labels.
        same: the gallery is the set that the queries are from, and each of them is to be left out.

    Raises:
        ValueError: the queries have a class that the gallery does not have.
    """
    unknown = [name for name in queries.classes if name not in gallery.classes]
    if unknown:
        raise ValueError(
            f"class {unknown[0]!r} of '{queries.name}' is not in the gallery '{gallery.name}', which has "
            f"{', '.join(gallery.classes[:8])}{', …' if len(gallery.classes) > 8 else ''}"
        )
    number = [gallery.classes.index(name) for name in queries.classes]
    labels = all_labels(queries)
    if (labels < 0).any():
        raise ValueError(f"'{queries.name}': {queries.keys[int((labels < 0).argmax())]} has no label; leave it out")
    classes = {key: number[label] for key, label in zip(queries.keys, labels.tolist(), strict=True)}
    own = {key: place for place, key in enumerate(gallery.keys) if key in classes} if same else {}
    return ClassRelevance(classes, all_labels(gallery), own)
