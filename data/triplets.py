"""Triplets of pictures: a reference and two others, and which of them people find nearer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from data.batches import ImageSample
from data.framing import Framing
from data.source import ImageSource
from data.transforms import DecodeError

CLASSES = ("left", "right")


@dataclass(frozen=True, eq=False)
class Triplets:
    """What one layout comes to.

    Attributes:
        keys: N unique names.
        labels: N: 0 where the left picture is nearer, 1 where the right one is; or the place of the odd one out.
        picture: (index, 0 reference | 1 left | 2 right) -> picture; of odd ones out, first to third.
        soft: N fractions of people who found the right one nearer; empty where only labels are known.
        groups: N names of parts of the set, such as a test split or a kind of distortion; empty where there is one.
        layout: in words, for the record.
    """

    keys: Sequence[str]
    labels: Sequence[int]
    picture: Callable[[int, int], Image.Image]
    soft: Sequence[float] = ()
    groups: Sequence[str] = ()
    layout: str = ""


class TripletImages(ImageSource):
    """Triplets as samples: the reference is the picture, left and right lie beside it.

    Args:
        triplets: of a layout.
        framing: how a picture becomes a square.
        name: for reports.
        classes: names of the answers.
    """

    def __init__(
        self,
        triplets: Triplets,
        framing: Framing,
        *,
        name: str,
        classes: tuple[str, ...] = CLASSES,
    ) -> None:
        super().__init__(name=name, keys=triplets.keys, classes=classes, templates=())
        self.triplets, self.framing = triplets, framing
        lengths = {len(triplets.labels), len(triplets.soft or triplets.labels), len(triplets.groups or triplets.labels)}
        if lengths != {len(self.keys)} or len(set(self.keys)) < len(self.keys):
            raise ValueError(f"'{name}' needs a label and a unique key for each of its {len(self.keys)} triplets")

    def soft(self) -> Mapping[str, float]:
        """By key, the fraction of people who found the right one nearer; empty where only labels are known."""
        return dict(zip(self.keys, self.triplets.soft, strict=True)) if self.triplets.soft else {}

    def groups(self) -> Mapping[str, str]:
        """By key, the part of the set; empty where there is one."""
        return dict(zip(self.keys, self.triplets.groups, strict=True)) if self.triplets.groups else {}

    def __getitem__(self, index: int) -> ImageSample:
        reference, left, right = (self._pixels(index, which) for which in range(3))
        beside = torch.stack([left, right])
        return ImageSample(reference, int(self.triplets.labels[index]), self.keys[index], beside=beside)

    def _pixels(self, index: int, which: int) -> Tensor:
        try:
            return self.framing.pixels(self.triplets.picture(index, which))
        except DecodeError as error:
            where = f"the {('reference', *self.classes)[-3:][which]} of {self.keys[index]} of '{self.name}'"
            raise DecodeError(error.reason, f"{error.detail}; {where}" if error.detail else where) from error


@dataclass(frozen=True, eq=False)
class TripletFiles:
    """Pictures of triplets in files, decoded when asked for."""

    paths: Sequence[tuple[str, str, str]]
    read: Callable[[str], Image.Image] = field(repr=False)

    def __call__(self, index: int, which: int) -> Image.Image:
        """One picture of a triplet.

        Raises:
            DecodeError: it cannot be read or decoded.
        """
        return self.read(self.paths[index][which])
