"""Prior files: safetensors whose header holds the configuration; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from modules.prior.diffusion import DiffusionPrior

_HEADER = "robustclip"
_FILE = "prior.safetensors"
_RESERVED = ("kind", "config")


def save_prior(prior: DiffusionPrior, path: str | os.PathLike[str], **metadata: Any) -> Path:
    """The file written, by a temporary name first.

    Args:
        prior: what to save.
        path: a file, or a folder, which gets ``prior.safetensors``.
        metadata: plain values to keep with it, such as the encoder it belongs to.
    """
    path = _file(path)
    if clash := sorted(set(metadata) & set(_RESERVED)):
        raise ValueError(f"prior metadata cannot be called {clash[0]!r}; rename it")
    try:
        header = json.dumps({"kind": "prior", "config": prior.config(), **metadata}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"prior metadata must be plain values: {error}") from error
    # Cloned: the layers share one frequency table, and safetensors stores no shared memory.
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in prior.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata={_HEADER: header})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load_prior(path: str | os.PathLike[str]) -> DiffusionPrior:
    """The prior in a file of ``save_prior``, on the CPU and in evaluation mode.

    Raises:
        ValueError: no file, not a prior, or tensors that do not fit its configuration.
    """
    path = _file(path)
    header, tensors = _read(path, with_tensors=True)
    try:
        with torch.device("meta"):
            prior = DiffusionPrior.from_config(header["config"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in prior.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wrong := sorted({name for name, _ in expected.items() ^ found.items()}):
        raise ValueError(
            f"{path}: {len(wrong)} tensors do not fit its configuration, among them "
            f"{', '.join(wrong[:3])}; save the prior again"
        )
    prior.load_state_dict(tensors, assign=True)
    return prior.eval()


def prior_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What was saved beside the weights: ``kind``, ``config`` and ``save_prior``'s metadata.

    Raises:
        ValueError: no file, or not a prior.
    """
    return _read(_file(path), with_tensors=False)[0]


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path / _FILE if path.is_dir() else path


def _read(path: Path, *, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such prior; train or convert one first")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "null"))
            names = list(file.keys()) if with_tensors else []
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
    if not isinstance(header, dict) or header.get("kind") != "prior" or "config" not in header:
        raise ValueError(f"{path}: a safetensors file, but not a prior of robustclip")
    return header, tensors
