"""Inversions of class names, read by somebody else: is the digit there that was asked for?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metrics import wilson
from eval.perceptual.changes import mean_of
from eval.stats import Estimate
from modules.encoders.base import ImageEncoder
from modules.perceptual.inversion import Inversion, Inverting, Start, invert
from modules.zero_shot import ZeroShotHead

SIDE = 8  # pixels that classifiers of pixels look at: what is finer is averaged away


@dataclass(frozen=True)
class Legible:
    """What others make of an encoder's inversions.

    Attributes:
        start: of the inversions.
        n: how many.
        read: by reader, the share in which it sees the class that was asked for, with its interval.
        likeness: mean correlation, of pixels, with the nearest held-out picture of the class.
        cosine: mean, of the inversions to the targets.
        distance: mean, from the start.
    """

    start: str
    n: int
    read: dict[str, Estimate]
    likeness: Estimate
    cosine: Estimate
    distance: Estimate


class PixelReaders:
    """Classifiers that never saw an encoder: scikit-learn's, on 8 x 8 grey pixels of equal contrast.

    Args:
        x: [N, 3, H, W] training pictures.
        y: [N] class indices.
    """

    def __init__(self, x: Tensor, y: Sequence[int], /) -> None:
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.svm import SVC

        self.classifiers: dict[str, Any] = {"support vectors": SVC(C=10.0), "5 neighbours": KNeighborsClassifier(5)}
        for classifier in self.classifiers.values():
            classifier.fit(_pixels(x), list(y))

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """By reader, [B] class indices of pictures x [B, 3, H, W]."""
        return {name: torch.as_tensor(one.predict(_pixels(x))) for name, one in self.classifiers.items()}


def _pixels(x: Tensor) -> Any:
    small = F.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True).cpu(), SIDE).flatten(1)
    return F.normalize(small - small.mean(dim=1, keepdim=True), dim=1).numpy()


def likeness(x: Tensor, y: Tensor, held_out: Tensor, labels: Tensor) -> Tensor:
    """[B] correlation of pixels, all channels, of x [B, 3, H, W] with the nearest held-out picture of class y [B]."""
    a, b = (F.normalize((v - v.mean(dim=(1, 2, 3), keepdim=True)).flatten(1), dim=1) for v in (x, held_out))
    return (a @ b.T).masked_fill(labels[None] != y[:, None], -1.0).amax(dim=1)


@dataclass(frozen=True)
class Reading:
    """Who reads inversions of digits.

    Attributes:
        pixels: classifiers of pixels.
        others: encoders by name; each inversion is read by all but its own, zero-shot.
        head: of the classes.
        x: [M, 3, H, W] held-out pictures.
        y: [M] their classes.
    """

    pixels: PixelReaders
    others: Mapping[str, ImageEncoder]
    head: ZeroShotHead
    x: Tensor
    y: Tensor

    def of(self, name: str, start: str, found: Inversion, asked: Tensor) -> Legible:
        """What the readers make of an encoder's inversions for the classes ``asked`` [B]."""
        said = self.pixels(found.x)
        with torch.no_grad():
            for other, encoder in self.others.items():
                if other != name:
                    said["the other encoder"] = self.head(encoder(found.x)).argmax(dim=1).cpu()
        asked = asked.cpu()
        right = {reader: int((answer == asked).sum()) for reader, answer in said.items()}
        near = likeness(found.x.cpu(), asked, self.x.cpu(), self.y.cpu())
        n = len(asked)
        return Legible(
            start=start,
            n=n,
            read={reader: Estimate(count / n, *wilson(count, n)) for reader, count in right.items()},
            likeness=mean_of(near.double()),
            cosine=mean_of(found.cosine.double().cpu()),
            distance=mean_of(found.distance.double().cpu()),
        )

    def clean(self) -> dict[str, Estimate]:
        """By reader of pixels, its accuracy on the held-out pictures themselves."""
        right = {reader: int((answer == self.y.cpu()).sum()) for reader, answer in self.pixels(self.x).items()}
        return {reader: Estimate(count / len(self.y), *wilson(count, len(self.y))) for reader, count in right.items()}


def inverted_names(
    encoder: ImageEncoder, head: ZeroShotHead, how: Inverting, start: Start, *, seeds: int, snapshots: int = 0
) -> tuple[Inversion, Tensor]:
    """Inversions of every class name from several seeds, and [B] which class each was asked for.

    The first K are of the first seed, in the order of the classes.

    Args:
        encoder: looked into.
        head: whose K class embeddings are the targets.
        how: the search.
        start: of every one.
        seeds: of starts and looks: every inversion has random numbers of its own.
        snapshots: pictures to keep on the way.
    """
    asked = torch.arange(len(head.classes)).repeat(seeds)
    return invert(encoder, head.weights[asked], how, start=start, snapshots=snapshots), asked
