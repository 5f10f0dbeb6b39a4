"""Residual heads in and out of files, each bound to the encoder that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modules.checkpoint import read_state, write_tower
from modules.encoders.base import ImageEncoder
from modules.encoders.fingerprint import fingerprint
from modules.encoders.fitting import first_not_finite
from modules.perceptual.residual_head import ResidualHead

HEAD = "residual_head"
"""What a head's file says it is."""


def save_head(head: ResidualHead, path: Path, **metadata: Any) -> Path:
    """Write what is trained of a head as safetensors, all or nothing, with the name of its encoder's weights."""
    said = {**metadata, "kind": HEAD, "encoder": fingerprint(head.encoder), "hidden": head.fc1.out_features}
    return write_tower(head.head_state(), path, **said)


def load_head(encoder: ImageEncoder, path: Path) -> tuple[ResidualHead, dict[str, Any]]:
    """The encoder with the head in a file, frozen, and what the file says.

    Args:
        encoder: the very one that the head was trained on.
        path: that ``save_head`` wrote.

    Raises:
        ValueError: the file cannot be read, holds no head, is damaged, or belongs to another encoder.
    """
    state, metadata = read_state(path)
    if metadata.get("kind") != HEAD or "fc1.weight" not in state or state["fc1.weight"].dim() != 2:
        raise ValueError(f"{path} is not a head; name the export/head.safetensors of robustclip perceptual")
    own = fingerprint(encoder)
    if metadata.get("encoder") != own:
        base = metadata.get("base")
        said = [*base.values(), metadata.get("checkpoint")] if isinstance(base, dict) else []
        of = " ".join([f"{metadata.get('encoder')},", *(str(word) for word in said if word)]).rstrip(",")
        raise ValueError(
            f"{path} was trained on another encoder ({of}) than this one ({own}); name that one and its checkpoint"
        )
    if broken := first_not_finite(state):
        raise ValueError(f"{path} holds numbers that are not finite, in {broken}")
    try:
        head = ResidualHead(encoder, hidden=len(state["fc1.weight"])).load_head(state)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return head.to(next(encoder.parameters()).device).eval().requires_grad_(False), metadata
