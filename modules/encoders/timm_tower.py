"""Image towers of timm, DINO's among them: an encoder without a text tower, hence without zero-shot classes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from modules.encoders.clip import CLIP, CLIPEncoder
from modules.encoders.positions import resize_positions

PREFIX = "timm/"


def load_timm(name: str, pretrained: str = "", *, image_size: int | None = None, weights: bool = True) -> CLIP:
    """An image tower of timm as a CLIP without text; its embeddings are what timm's classifiers look at.

    Args:
        name: ``timm/`` and timm's name, such as ``timm/vit_base_patch16_224.dino``.
        pretrained: a file of weights in timm's names; empty fetches those of timm's tag.
        image_size: H = W, where it should differ from the model's own; positions are interpolated.
        weights: False builds it with no weights and no memory.

    Raises:
        ValueError: unknown name, or the weights cannot be had.
    """
    bare = name.removeprefix(PREFIX)
    _check(name, bare)
    local = Path(pretrained) if pretrained else None
    model = _create(name, bare, fetch=weights and local is None, meta=not weights)
    if weights and local is not None:
        from modules.checkpoint import load_tower

        load_tower(model, local)
    settings = model.pretrained_cfg
    own = settings["input_size"][-1]
    size = image_size or own
    if size != own:
        resize_positions(model, size, name=name)
    encoder = CLIPEncoder(
        model,
        mean=settings["mean"],
        std=settings["std"],
        image_size=size,
        embedding_dim=model.num_features if not hasattr(model, "head_hidden_size") else model.head_hidden_size,
    )
    return CLIP(name, pretrained, encoder, None, 100.0)


def _check(name: str, bare: str) -> None:
    import timm

    architecture = bare.partition(".")[0]
    if ":" in bare or not timm.is_model(architecture):
        from difflib import get_close_matches

        near = get_close_matches(architecture, timm.list_models(), n=4, cutoff=0.3)
        raise ValueError(f"unknown model {name!r}; near it: {', '.join(PREFIX + n for n in near) or 'nothing'}")
    if bare != architecture and not timm.models.is_model_pretrained(bare):
        tags = [found.partition(".")[2] for found in timm.list_pretrained(architecture + ".*")]
        raise ValueError(f"timm has no weights {bare!r}; choose a tag of: {', '.join(tags) or 'none'}")


def _create(name: str, bare: str, *, fetch: bool, meta: bool) -> Any:
    """timm's model without its classifier, and without moving torch's global generator."""
    import timm

    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta") if meta else nullcontext():
            torch.manual_seed(0)
            return timm.create_model(bare, pretrained=fetch, num_classes=0).eval()
    except Exception as error:  # many kinds: no network, no such file, no weights under this tag
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = "; name a file of its weights with model.pretrained=FILE" if fetch else ""
        raise ValueError(f"cannot load model {name!r}: {reason}{remedy}") from error
