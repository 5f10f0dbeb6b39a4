"""The name of an encoder's behaviour: its weights, and what it does to pixels before it looks at them."""

from __future__ import annotations

import hashlib
import struct

import torch
from torch import nn


def fingerprint(encoder: nn.Module) -> str:
    """16 hexadecimal digits that name an encoder's weights and preprocessing (mean, standard deviation, resolution).

    The same on every device; of a module without preprocessing only the weights count.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for name in ("mean", "std"):
        value = getattr(encoder, name, None)
        if isinstance(value, torch.Tensor):
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    size = getattr(encoder, "image_size", None)
    digest.update(struct.pack("<q", size) if isinstance(size, int) else b"")
    return digest.hexdigest()
