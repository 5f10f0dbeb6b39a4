"""Room for a whole batch of pictures at once, so that each is written where it stays."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


def empty_block(*shape: int) -> Tensor:
    """A float32 tensor of that shape, not filled; in a reading process, in memory that it shares with the training."""
    if get_worker_info() is None:
        return torch.empty(shape)
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))
    return torch.empty(0).set_(storage).view(shape)
