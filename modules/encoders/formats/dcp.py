"""Folders of torch.distributed.checkpoint, such as open_clip's ``epoch_K/``: put together without running anything.

Their list of contents, ``.metadata``, is a pickle of classes; here those are stand-ins that only keep what they are
given, and each piece of a tensor is read by itself, as a table of weights is.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modules.inert_pickle import Inert, read_inert_bytes
from modules.odd_tensors import refuse_odd
from modules.weights_file import is_compressed

LIST = ".metadata"


def is_dcp(folder: Path) -> bool:
    """Whether a folder is such a checkpoint."""
    return (folder / LIST).is_file()


def read_dcp(folder: Path) -> dict[str, Tensor]:
    """The tensors of a sharded checkpoint, whole, by their full names; other values are left out.

    Raises:
        ValueError: damaged, a piece is missing, or the list names something that could run code.
    """
    listed = read_inert_bytes(folder / LIST, (folder / LIST).read_bytes())
    try:
        contents, places = listed.state["state_dict_metadata"], listed.state["storage_data"]
        wanted = {
            str(name): (tuple(entry.state["size"]), entry.state["properties"].state[0])
            for name, entry in contents.items()
            if "size" in (entry.state or {}) and not _of_optimiser(str(name))
        }
        pieces = [(index.state, place.state) for index, place in places.items()]
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{folder / LIST} is no list of contents that is known ({type(error).__name__})") from error
    found = _room(folder, wanted)
    refuse_odd(folder, found)
    filled = dict.fromkeys(found, 0)
    for index, place in pieces:
        name = str(index.get("fqn"))
        if name in found:
            filled[name] += _fill(found[name], folder, tuple(index.get("offset") or ()), place)
    lacking = [name for name, count in filled.items() if count != found[name].numel()]
    if lacking:
        raise ValueError(f"{folder} lacks parts of {lacking[0]} ({len(lacking)} tensors are not whole); fetch it again")
    return found


def _room(folder: Path, wanted: dict[str, tuple[Any, Any]]) -> dict[str, Tensor]:
    """Empty tensors; a list that asks for more numbers than the folder has bytes is refused."""
    stored = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    sizes = [size for size, _ in wanted.values()]
    odd = any(not isinstance(side, int) or side < 0 for size in sizes for side in size)  # negative ones make room
    if (
        odd
        or not all(isinstance(dtype, torch.dtype) for _, dtype in wanted.values())
        or sum(map(math.prod, sizes)) > stored
    ):
        raise ValueError(f"{folder / LIST} asks for tensors that the folder cannot hold; fetch it again")
    return {name: torch.empty(size, dtype=dtype) for name, (size, dtype) in wanted.items()}


def _of_optimiser(name: str) -> bool:
    return name.startswith("optim") or ".optim" in name


def _fill(target: Tensor, folder: Path, offset: tuple[int, ...], place: dict[str, Any]) -> int:
    """Write one stored piece to its place; returns its number of elements."""
    piece = _piece(folder, place)
    at = offset or (0,) * target.dim()
    if len(at) != piece.dim() or any(o < 0 or o + n > m for o, n, m in zip(at, piece.shape, target.shape, strict=True)):
        raise ValueError(f"{folder} holds a piece of another shape than its list says; fetch it again")
    target[tuple(slice(o, o + n) for o, n in zip(at, piece.shape, strict=True))] = piece
    return piece.numel()


def _piece(folder: Path, place: dict[str, Any]) -> Tensor:
    file = folder / str(place.get("relative_path"))
    begin, length = place.get("offset"), place.get("length")
    if file.parent != folder or isinstance(begin, Inert) or not (isinstance(begin, int) and isinstance(length, int)):
        raise ValueError(f"{folder / LIST} names a file outside of its folder, or no place in it; nothing was read")
    try:
        with file.open("rb") as stream:
            stream.seek(begin)
            content = io.BytesIO(stream.read(max(0, length)))
        if is_compressed(content):
            raise ValueError("compressed")
        content.seek(0)
        value = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged or unsafe bytes
        raise ValueError(f"{file} was not loaded: a piece is missing, damaged, or no tensor; fetch it again") from error
    if not isinstance(value, Tensor):
        raise ValueError(f"{file} was not loaded: a piece is no tensor")
    refuse_odd(file, {"a piece": value})
    return value
