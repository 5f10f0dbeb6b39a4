"""Encoders whose speed is measured: architectures with random weights."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import torch
from torch import nn

from modules.encoders.base import ImageEncoder
from modules.encoders.clip import TINY, CLIPEncoder

M = TypeVar("M", bound=nn.Module)
SHORTER = ("modules.encoders.quick", "modules.encoders.class_token")
"""Modules of layers that compute on shorter ways what their bases do."""


def random_encoder(architecture: str) -> ImageEncoder:
    """An image tower of open_clip, or ``tiny``, in which nothing is dropped at random: two recipes see the same.

    Args:
        architecture: as open_clip names it; weights come from torch's global generator, those of ``tiny`` do not.
    """
    if architecture == TINY:
        from modules.encoders.tiny import assemble_tiny, new_tiny

        return assemble_tiny(new_tiny()).image
    import open_clip

    logging.disable(logging.WARNING)  # it warns that the weights are random
    try:
        visual: Any = open_clip.create_model(architecture, pretrained=None).get_submodule("visual")
    finally:
        logging.disable(logging.NOTSET)
    for part in visual.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif type(part).__name__ == "DropPath":
            part.drop_prob = 0.0
    size = 224
    with torch.no_grad():
        dim = visual(torch.zeros(1, 3, size, size)).shape[1]
    return CLIPEncoder(visual, mean=[0.5] * 3, std=[0.5] * 3, image_size=size, embedding_dim=dim)


def as_made(module: M) -> M:
    """Itself, every layer again the one that torch and open_clip made: what others compute with."""
    for layer in module.modules():
        if type(layer).__module__ in SHORTER:
            layer.__class__ = type(layer).__base__  # pyright: ignore[reportAttributeAccessIssue]
    return module
