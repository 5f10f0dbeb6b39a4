"""Inversions of class names, read by what never saw an encoder: is the digit there that was asked for?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metrics import wilson
from eval.perceptual.changes import mean_of
from eval.stats import Estimate
from modules.perceptual.inversion import Inversion

SIDE = 8  # pixels that classifiers of pixels look at: what is finer is averaged away
DIRECTIONS = 40  # in which pictures of digits vary most


@dataclass(frozen=True)
class Legible:
    """What is to be seen on an encoder's inversions.

    Attributes:
        n: how many.
        read: by reader, the share in which it sees the class that was asked for, with its interval.
        strokes: mean share of the change that lies where pictures vary.
        likeness: mean correlation, of pixels, with the nearest held-out picture of the class.
        cosine: mean, of the inversions to the targets.
        distance: mean, from the start.
    """

    n: int
    read: dict[str, Estimate]
    strokes: Estimate
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


def directions_of(x: Tensor, count: int = DIRECTIONS) -> Tensor:
    """[count, 3HW] orthonormal directions in which pictures x [N, 3, H, W] vary most, N above ``count``."""
    rows = x.flatten(1).double()
    rows = rows - rows.mean(dim=0)
    found = torch.linalg.eigh(rows @ rows.T)  # N x N: there are fewer pictures than pixels
    axes = found.eigenvectors[:, -count:].T @ rows
    return F.normalize(axes, dim=1)


def strokes(change: Tensor, directions: Tensor) -> Tensor:
    """[B] share of the squared length of change [B, 3, H, W] within orthonormal directions [D, 3HW].

    Of noise, D / 3HW; of a picture of the kind that varies so, nearly all.
    """
    delta = change.flatten(1).double()
    return (delta @ directions.T).square().sum(dim=1) / delta.square().sum(dim=1).clamp_min(1e-12)


def likeness(x: Tensor, y: Tensor, held_out: Tensor, labels: Tensor) -> Tensor:
    """[B] correlation of pixels, all channels, of x [B, 3, H, W] with the nearest held-out picture of class y [B]."""
    a, b = (F.normalize((v - v.mean(dim=(1, 2, 3), keepdim=True)).flatten(1), dim=1) for v in (x, held_out))
    return (a @ b.T).masked_fill(labels[None] != y[:, None], -1.0).amax(dim=1)


class Reading:
    """Reads inversions of digits, without an encoder.

    Args:
        train: [N, 3, H, W] pictures and [N] classes from which readers learn.
        held_out: [M, 3, H, W] pictures and [M] classes with which inversions are compared.
    """

    def __init__(self, train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], /) -> None:
        self.directions, self.held_out = directions_of(train[0]), held_out
        self.mean = train[0].mean(dim=0)
        self.readers = PixelReaders(train[0], train[1].tolist())

    def of(self, found: Inversion, start: Tensor, asked: Tensor) -> Legible:
        """What is to be seen on inversions, from pictures ``start`` [B or 1, 3, H, W], for the classes asked [B]."""
        x, asked = found.x.cpu(), asked.cpu()
        return Legible(
            n=len(asked),
            read=self._shares(x, asked),
            strokes=mean_of(strokes(x - start.cpu(), self.directions)),
            likeness=mean_of(likeness(x, asked, *self.held_out).double()),
            cosine=mean_of(found.cosine.double().cpu()),
            distance=mean_of(found.distance.double().cpu()),
        )

    def clean(self) -> dict[str, Estimate]:
        """By reader, its accuracy on the held-out pictures themselves."""
        return self._shares(*self.held_out)

    def clean_strokes(self) -> Estimate:
        """Mean share of strokes of the held-out pictures themselves, about the mean picture."""
        return mean_of(strokes(self.held_out[0] - self.mean, self.directions))

    def _shares(self, x: Tensor, y: Tensor) -> dict[str, Estimate]:
        right = {reader: int((answer == y).sum()) for reader, answer in self.readers(x).items()}
        return {reader: Estimate(count / len(y), *wilson(count, len(y))) for reader, count in right.items()}
