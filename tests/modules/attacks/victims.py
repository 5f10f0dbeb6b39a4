"""Classifiers to compare attacks on: two drawn at random and one trained for a few steps."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.attacks.base import Classifier
from modules.zero_shot import ZeroShotClassifier
from tests.modules.toys import ConvEncoder, classifier, images

VICTIMS = ("random", "wide", "trained")


@cache
def victim(name: str, size: int = 8) -> ZeroShotClassifier:
    """A classifier of images of ``size`` pixels, by name one of ``VICTIMS``."""
    if name == "random":
        return classifier(ConvEncoder(size=size, seed=4))
    if name == "wide":
        return classifier(ConvEncoder(dim=48, size=size, seed=7), classes=10)
    model = classifier(ConvEncoder(size=size, seed=1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(60):
        x = images(64, size, seed=100 + step)
        loss = F.cross_entropy(model(x), patch_of(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.requires_grad_(False)


def patch_of(x: Tensor) -> Tensor:
    """[B] which of six patches of an image is the brightest: something to learn."""
    return F.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True), (2, 3)).flatten(1).argmax(dim=1)


def predictions(model: Classifier, x: Tensor) -> Tensor:
    """[B] predicted classes."""
    with torch.no_grad():
        return model(x).argmax(dim=1)
