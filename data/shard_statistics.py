"""What was counted in some shards, and what follows from it: classes, sizes, shapes, formats, duplicates, colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ASPECTS = (1 / 2, 2 / 3, 4 / 5, 5 / 4, 3 / 2, 2)
"""Edges of the histogram of width over height."""
_TOLD = 10  # sizes, and examples of duplicates
_QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


@dataclass
class ShardStatistics:
    """What was found in some shards; those of several add up.

    Attributes:
        samples: in their indexes.
        shards: how many.
        bytes: of the tars.
        captions: samples that have one.
        labels: samples of each class, by number; -1 has no label.
        sizes: pictures of each (width, height).
        formats: pictures of each format.
        bad: samples without a picture, label or caption that can be read, by reason.
        rejected: members and shards that are refused, by reason.
        faults: of shards that cannot be read, a line each.
        picture_bytes: of the encoded pictures.
        pixels: how many there are.
        sums, squares: of the pixels in [0, 1], of each channel.
        hashes: of each picture's bytes, [N] uint64, a part for each shard, beside ``rows``, their samples' numbers.
    """

    samples: int = 0
    shards: int = 0
    bytes: int = 0
    captions: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    picture_bytes: int = 0
    pixels: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(3))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3))
    hashes: list[np.ndarray] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)

    def add(self, other: ShardStatistics) -> None:
        """Take in what was found elsewhere."""
        for name in ("samples", "shards", "bytes", "captions", "picture_bytes", "pixels", "sums", "squares"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("labels", "sizes", "formats", "bad", "rejected"):
            getattr(self, name).update(getattr(other, name))
        self.hashes += other.hashes
        self.rows += other.rows
        self.faults += other.faults

    def plain(self, classes: Sequence[str]) -> dict[str, Any]:
        """As JSON: numbers, and counts by name; ``classes`` names the labels."""
        return {
            "samples": self.samples,
            "shards": self.shards,
            "bytes": self.bytes,
            "picture_bytes": self.picture_bytes,
            "classes": self._per_class(classes),
            "unlabelled": self.labels[-1],
            "captions": self.captions,
            "formats": dict(sorted(self.formats.items())),
            "sizes": {f"{w} x {h}": count for (w, h), count in self.sizes.most_common(_TOLD)},
            "different_sizes": len(self.sizes),
            "width": self._quantiles(0),
            "height": self._quantiles(1),
            "aspects": self._aspects(),
            "mean": self._mean().tolist(),
            "std": np.sqrt(np.maximum(self.squares / max(self.pixels, 1) - self._mean() ** 2, 0)).tolist(),
            "duplicates": self.duplicates(),
            "bad": dict(sorted(self.bad.items())),
            "rejected": dict(sorted(self.rejected.items())),
            "faults": self.faults[:_TOLD],
        }

    def duplicates(self) -> int:
        """Pictures whose bytes another one before them has."""
        hashes = np.concatenate([np.empty(0, np.uint64), *self.hashes])
        return len(hashes) - len(np.unique(hashes))

    def groups(self) -> list[list[tuple[int, int]]]:
        """The first few groups of pictures with the same bytes, each by (shard, sample in it)."""
        if not self.duplicates():
            return []
        hashes = np.concatenate(self.hashes)
        shard = np.repeat(np.arange(len(self.hashes)), [len(part) for part in self.hashes])
        row = np.concatenate(self.rows)
        values, counts = np.unique(hashes, return_counts=True)
        again = values[counts > 1]
        first = {value: int(np.argmax(hashes == value)) for value in again[:_TOLD].tolist()}
        same = [np.flatnonzero(hashes == value)[:_TOLD] for value in sorted(first, key=lambda value: first[value])]
        return [[(int(shard[place]), int(row[place])) for place in places] for places in same]

    def _per_class(self, classes: Sequence[str]) -> dict[str, int]:
        if classes:
            counted: Counter[str] = Counter()
            for label, name in enumerate(classes):
                counted[name] += self.labels[label]
            return dict(counted)
        return {str(label): count for label, count in sorted(self.labels.items()) if label >= 0}

    def _quantiles(self, side: int) -> list[int]:
        """The side's 0, 5, 25, 50, 75, 95 and 100 % quantiles."""
        if not self.sizes:
            return []
        values = np.repeat([size[side] for size in self.sizes], list(self.sizes.values()))
        return np.quantile(values, _QUANTILES, method="lower").astype(int).tolist()

    def _aspects(self) -> dict[str, int]:
        found = [0] * (len(ASPECTS) + 1)
        for (width, height), count in self.sizes.items():
            found[int(np.searchsorted(ASPECTS, width / height, side="right"))] += count
        edges = ["1:2", "2:3", "4:5", "5:4", "3:2", "2:1"]
        names = [f"below {edges[0]}", *(f"{a} to {b}" for a, b in zip(edges, edges[1:], strict=False)), "2:1 and above"]
        return dict(zip(names, found, strict=True))

    def _mean(self) -> np.ndarray:
        return self.sums / max(self.pixels, 1)
