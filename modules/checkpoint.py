"""Weights of image towers in and out of files, without ever running code from one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from modules.encoders.fitting import differences, first_not_finite, said_in_a_line
from modules.encoders.formats import open_weights
from modules.encoders.formats.base import tensors_of, unwrapped
from modules.encoders.formats.open_clip import OPEN_CLIP
from modules.encoders.formats.tecoa import TECOA
from modules.weights_file import is_whole as is_whole
from modules.weights_file import read_content


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a checkpoint file; nothing in it is executed.

    Raises:
        ValueError: the file is missing, of another kind, damaged, or names what could run code.
    """
    content, metadata = read_content(path)
    inner = content["vision_encoder_state_dict"] if TECOA.recognises(content) else unwrapped(content)
    state = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not state:
        raise ValueError(f"{path} holds no tensors at a place that is known")
    return state, metadata


def tower_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the image tower alone, named as in open_clip's ``visual``."""
    return OPEN_CLIP.towers(state).visual if OPEN_CLIP.recognises(state) else tensors_of(state)


def load_tower(visual: nn.Module, path: Path) -> dict[str, Any]:
    """Load a checkpoint of any known format into an image tower, strictly; returns the file's metadata.

    Raises:
        ValueError: the file cannot be read, or tensors are missing, unexpected, of another shape, or not finite.
    """
    weights = open_weights(path)
    faults = differences(visual.state_dict(), weights.towers.visual)
    if faults:
        raise ValueError(f"{path} is not of this model ({said_in_a_line(faults)})")
    if broken := first_not_finite(weights.towers.visual):
        raise ValueError(f"{path} holds numbers that are not finite, in {broken}")
    visual.load_state_dict(weights.towers.visual)
    return weights.metadata


def save_tower(visual: nn.Module, path: Path, **metadata: Any) -> Path:
    """Write an image tower as safetensors, named as in open_clip's ``visual``, all or nothing."""
    return write_tower(visual.state_dict(), path, **metadata)


def write_tower(state: Mapping[str, Tensor], path: Path, **metadata: Any) -> Path:
    """As ``save_tower``, from the tensors of a tower."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    try:
        save_file(tensors, temporary, metadata={"robustclip": json.dumps({"kind": "encoder", **metadata})})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
