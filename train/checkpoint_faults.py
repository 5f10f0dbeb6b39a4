"""Whether a training can go on from a file: damaged ones are passed over, poisoned ones stop it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from configs.files import ConfigError
from modules.checkpoint import is_whole
from modules.pickle_calls import would_call

_NEEDED = ("epoch", "global_step", "loops", "optimizer_states", "pytorch-lightning_version", "state_dict")


def first_sound(newest_first: Iterable[Path]) -> Path | None:
    """The first file that a training can go on from; those before it are named, and why.

    Raises:
        ConfigError: a file before it names what could run code.
    """
    for path in newest_first:
        fault = fault_of(path)
        if not fault:
            return path
        print(f"{path} {fault}; going back to the one before")
    return None


def fault_of(path: Path) -> str:
    """Why a training cannot go on from a file, in words; empty where it can.

    Tensors are read for their checksums only.

    Raises:
        ConfigError: the file names what could run code, which is no accident: somebody has to look; or it cannot be
            read, for instance because it is a link to a disk that is not there, and going back would lose steps.
    """
    if path.is_dir():
        return "is a folder"
    try:
        path.open("rb").close()
    except OSError as error:
        target = f", a link to {path.resolve()}," if path.is_symlink() else ""
        raise ConfigError(
            f"{path}{target} cannot be read ({error.strerror}); make it readable, or remove it, and the same command "
            "goes on from the one before"
        ) from error
    if calls := would_call(path):
        raise ConfigError(
            f"{path} was not loaded: it would run {calls[0]}, and no training writes that; nothing was run; find out "
            "who wrote it and remove it, and the same command goes on from the one before"
        )
    if not is_whole(path):
        return "is damaged"
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch raises many kinds
        return "holds what no training writes"
    lacking = [name for name in _NEEDED if name not in content] if isinstance(content, dict) else list(_NEEDED)
    return f"is no checkpoint of a training (it lacks {', '.join(lacking)})" if lacking else ""
