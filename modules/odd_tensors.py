"""Tensors of a stranger's file that are not plain tables of numbers, found before anything is computed with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DEEPEST = 6  # tables within tables
_NUMBERS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8})
_WHOLE = frozenset({torch.int8, torch.int16, torch.int32, torch.int64})
_SMALL = 1 << 24  # numbers; a tensor of so many may repeat a few that are stored


def refuse_odd(path: Path, content: Mapping[Any, Any]) -> None:
    """Refuse a file with a tensor that is sparse, quantised, complex, without numbers, or larger than what is stored.

    Such tensors fit by their shape, and then break what compares them, or fill the memory.

    Args:
        path: of the file, for what is told.
        content: of the file; tables within it are looked through.

    Raises:
        ValueError: names the first one.
    """
    for name, tensor in _tensors(content):
        if fault := _oddity(tensor):
            raise ValueError(f"{path} was not loaded: {name!a:.120} is {fault}; save plain tensors of numbers")


def _oddity(tensor: Tensor) -> str:
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "sparse"
    if tensor.device.type != "cpu":
        return f"on the device {tensor.device.type}, without its numbers"
    if tensor.dtype not in _NUMBERS | _WHOLE:
        return f"of {str(tensor.dtype).removeprefix('torch.')}"
    stored = tensor.untyped_storage().nbytes()
    if tensor.numel() > _SMALL and tensor.numel() * tensor.element_size() > stored:
        return f"{list(tensor.shape)} and the file holds {stored} bytes of it"
    return ""


def _tensors(content: Mapping[Any, Any], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield str(name), value
        elif isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _tensors(value, depth + 1)
