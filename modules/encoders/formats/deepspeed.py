"""Folders of DeepSpeed, also as Lightning writes them (``epoch=1.ckpt/checkpoint/…``): the weights of ZeRO-1 and 2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from modules.weights_file import read_content

_STATES = "mp_rank_00_model_states.pt"
_SHARDED = "zero_pp_rank_0_mp_rank_00_model_states.pt"


def _place(folder: Path) -> Path | None:
    """The folder in which the files of the newest step lie."""
    tags = [folder, folder / "checkpoint"]
    if (folder / "latest").is_file():
        tag = (folder / "latest").read_text(errors="replace").strip()
        tags += [folder / tag] if tag and "/" not in tag and tag not in ("..", ".") else []
    return next((tag for tag in tags if (tag / _STATES).is_file() or (tag / _SHARDED).is_file()), None)


def is_deepspeed(folder: Path) -> bool:
    """Whether a folder is such a checkpoint."""
    return _place(folder) is not None


def read_deepspeed(folder: Path) -> dict[str, Any]:
    """The table of weights as the training computed with them, half precision where it did.

    Raises:
        ValueError: damaged, refused, or the weights themselves are split over processes (ZeRO-3).
    """
    place = _place(folder)
    assert place is not None, "not a folder of DeepSpeed"
    file = place / _STATES
    whole = read_content(file)[0].get("module") if file.is_file() else None
    tensors = [value for value in whole.values() if isinstance(value, Tensor)] if isinstance(whole, Mapping) else []
    if not tensors or not any(tensor.numel() for tensor in tensors):
        raise ValueError(
            f"{folder} is split over processes by ZeRO-3; run the zero_to_fp32.py that lies in it, with "
            "--safe_serialization, where you trust it, and give the result"
        )
    return {"module": whole}
