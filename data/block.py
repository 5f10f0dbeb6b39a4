"""Room for a whole batch of pictures at once, so that each is written where it stays."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

Batch = TypeVar("Batch")


def empty_block(*shape: int) -> Tensor:
    """A float32 tensor of that shape, not filled; in a reading process, in memory that it shares with the training."""
    if get_worker_info() is None:
        return torch.empty(shape)
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))
    return torch.empty(0).set_(storage).view(shape)


def in_shared_memory(batch: Batch) -> Batch:
    """Return a batch; in a reading process, with its tensors in memory that it shares with the training.

    torch would move them there on the way out, in a thread whose errors nobody hears: where shared memory is full, the
    training would wait for the batch for ever.

    Raises:
        RuntimeError: shared memory is full.
    """
    if get_worker_info() is not None:
        for value in vars(batch).values():
            if isinstance(value, Tensor):
                value.share_memory_()
    return batch
