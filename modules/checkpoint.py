"""Weights of image towers in and out of files, without ever running code from one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMATS = ".safetensors, .ckpt, .pt, .pth, .bin"


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a checkpoint file; nothing in it is executed.

    Raises:
        ValueError: the file is missing, of another kind, damaged, or holds objects that are not plain tensors.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file ({FORMATS})")
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in (".ckpt", ".pt", ".pth", ".bin"):
        raise ValueError(f"{path} is not a checkpoint that can be read; choose one of: {FORMATS}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        reason = "it holds objects that could run code" if "nsupported" in str(error) else "it is damaged"
        raise ValueError(f"{path} was not loaded: {reason}; convert it to .safetensors") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    return _unwrap(path, content)


def is_whole(path: Path) -> bool:
    """Whether every byte of a checkpoint is as it was written."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        return False


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get("robustclip", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error
    return state, metadata


def _unwrap(path: Path, content: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Find the tensors in the layouts that are in use: flat, Lightning, open_clip, TeCoA."""
    metadata = content.get("robustclip", {})
    if "global_step" in content:  # Lightning's
        metadata = {"step": content["global_step"], **metadata}
    for key in ("state_dict", "vision_encoder_state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise ValueError(f"{path} holds no tensors at a place that is known")
    return state, metadata


def tower_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the image tower alone, named as in open_clip's ``visual``."""
    for prefix in ("module.", "encoder.", "visual."):
        if any(name.startswith(prefix) for name in state):
            inner = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
            state = inner if prefix != "module." else {n.removeprefix(prefix): v for n, v in state.items()}
    return state


def load_tower(visual: nn.Module, path: Path) -> dict[str, Any]:
    """Load a checkpoint into an image tower, strictly; returns the file's metadata.

    Raises:
        ValueError: as ``read_state``, or tensors are missing, unexpected, of another shape, or not finite.
    """
    state, metadata = read_state(path)
    state = tower_state(state)
    own = visual.state_dict()
    faults = [
        *(f"no {name}" for name in own.keys() - state.keys()),
        *(f"unexpected {name}" for name in state.keys() - own.keys()),
        *(
            f"{name} is {list(state[name].shape)} instead of {list(own[name].shape)}"
            for name in own.keys() & state.keys()
            if own[name].shape != state[name].shape
        ),
    ]
    if faults:
        shown = "; ".join(sorted(faults)[:3])
        raise ValueError(f"{path} is not of this model ({len(faults)} tensors differ: {shown})")
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{path} holds numbers that are not finite, in {broken[0]}")
    visual.load_state_dict(state)
    return metadata


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
