"""The embedded digits as tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from data.sample import digits


def pictures(split: str) -> tuple[Tensor, Tensor]:
    """Pictures [N, 3, 32, 32] of a split and their classes [N]."""
    source = digits(split)
    return torch.from_numpy(source.pixels).permute(0, 3, 1, 2).float() / 255, torch.tensor(source.labels)


TRAIN, TEST = pictures("train"), pictures("test")
