"""The weights, version and step inside a file of DALLE2-pytorch's prior trainer, or in a bare table of tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from modules.choices import check_choice
from modules.inert_pickle import Inert, read_inert
from modules.odd_tensors import refuse_odd
from modules.prior.layouts import Release
from modules.weights_file import kind_of

Weights = Literal["ema", "model"]
_EMA = "ema_model."


@dataclass(frozen=True)
class Source:
    """A state dict, and what its file says of it.

    Attributes:
        path: the file.
        tensors: by their names in the file, without the trainer's prefixes.
        weights: the running mean of the weights, the weights as trained, or None for a bare table of tensors.
        release: of the library that wrote the file; None where it does not say.
        step: of the training.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    weights: Weights | None
    release: Release | None
    step: int | None

    def __post_init__(self) -> None:
        if self.weights is not None:
            check_choice("weights", self.weights, Weights)


def read_source(path: Path, weights: Weights | None = None) -> Source:
    """The weights in a file; nothing of it is run, and tensors are mapped, not loaded.

    A trainer keeps the running mean as ``ema``, a wrapper with ``initted``, ``step`` and the weights under
    ``ema_model.`` (and the trained ones again under ``online_model.``), and from 0.10 on also bare, as ``ema_model``.

    Args:
        path: of ``torch.save``, or .safetensors.
        weights: which to take; None for the running mean where there is one that has begun.

    Raises:
        ValueError: no file, damaged, refused, or it lacks the weights.
    """
    if weights is not None:
        check_choice("weights", weights, Weights)
    content = _safetensors(path) if path.is_file() and kind_of(path) == "safetensors" else read_inert(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a checkpoint; give a DiffusionPrior's file")
    tables = _tables(content)
    taken = weights or next((kind for kind in get_args(Weights) if kind in tables), None)
    if taken is None or not tables:
        if weights is not None:
            raise ValueError(f"{path} is a bare table of tensors: it has no choice of weights; leave out --weights")
        return Source(path, _only_tensors(path, content), None, None, None)
    if taken not in tables:
        asked = "running mean that has begun" if taken == "ema" else "trained weights"
        raise ValueError(f"{path} has no {asked}; say --weights {next(iter(tables))}")
    try:
        release = release_of(content.get("version"))
    except ValueError:
        release = None  # as if it said nothing: the names or the user must
    return Source(path, _only_tensors(path, tables[taken]), taken, release, _step(content))


def release_of(version: Any) -> Release | None:
    """The release in a stored version: text, or any form in which ``packaging`` was ever pickled.

    Raises:
        ValueError: there is a version, but no numbers in it.
    """
    if version is None:
        return None
    if isinstance(version, Inert):
        version = _release_parts(version.state)
        if version is not None:
            return version
    found = re.match(r"v?(\d+(?:\.\d+)+)", version.strip()) if isinstance(version, str) else None
    if found is None:
        raise ValueError(f"the version {version!r} cannot be read; say --source-version, such as 1.15.6")
    return tuple(int(part) for part in found[1].split("."))


def _release_parts(state: Any) -> Release | None:
    """The numbers of a ``packaging`` version: a tuple by position, a named tuple, or a table of slots."""
    if isinstance(state, Inert):
        return _release_parts(state.arguments)
    if isinstance(state, dict):
        for name in ("_version", "_release", "release"):
            if name in state:
                value = state[name]
                return _release_parts((0, value) if isinstance(value, tuple) else value)
    if isinstance(state, tuple) and len(state) > 1:
        parts = state[1]
        if isinstance(parts, tuple) and parts and all(type(part) is int for part in parts):
            return parts
        return _release_parts(parts)
    return None


def _tables(content: dict[str, Any]) -> dict[Weights, dict[str, Any]]:
    """The state dicts of a trainer's file, the preferred one first; empty for a bare table."""
    tables: dict[Weights, dict[str, Any]] = {}
    wrapper = content.get("ema")
    begun = True
    if isinstance(wrapper, dict) and isinstance(flag := wrapper.get("initted"), Tensor):
        begun = bool(flag.detach().any())
    if isinstance(bare := content.get("ema_model"), dict):
        tables["ema"] = bare
    elif isinstance(wrapper, dict):
        tables["ema"] = {name.removeprefix(_EMA): t for name, t in _named(wrapper) if name.startswith(_EMA)}
    if not begun or not tables.get("ema"):
        tables.pop("ema", None)
    if isinstance(model := content.get("model", content.get("state_dict")), dict):
        tables["model"] = model
    return tables


def _named(table: dict[Any, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in table.items() if isinstance(name, str)]


def _only_tensors(path: Path, table: dict[Any, Any]) -> dict[str, Tensor]:
    tensors = {name: value.detach() for name, value in _named(table) if isinstance(value, Tensor)}
    refuse_odd(path, tensors)
    if not tensors:
        raise ValueError(f"{path} holds no tensors; give a DiffusionPrior's checkpoint")
    return tensors


def _step(content: dict[str, Any]) -> int | None:
    step = content.get("step")
    if isinstance(step, Tensor) and step.numel() == 1:
        return int(step.item())
    return step if type(step) is int else None


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}; fetch it again") from error


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors with NaN or infinity in them."""
    return [name for name, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
