"""The folder of a sweep: a new one, or that of the same command, which goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from data.folder_lock import is_empty

FILE = "sweep.json"
_DONE = "done"


def open_sweep(recipe: str, request: Mapping[str, Any], out: Path | None) -> Path:
    """The folder of a sweep, not yet made.

    Where ``out`` is not said it is that of the last start of the same sweep which has not finished, or a new one.
    Further values of swept keys may join a sweep in its own folder.

    Args:
        recipe: its name.
        request: kind, recipe and words, as plain values.
        out: what the user says.

    Raises:
        ConfigError: ``out`` holds something else.
    """
    if out is not None:
        _refuse_foreign(out, request)
        return out
    parent = Path("runs") / f"sweep-{recipe}"
    for file in sorted(parent.glob(f"*/{FILE}"), reverse=True):
        if not (file.parent / _DONE).exists() and _read(file) == request:
            print(f"going on with {file.parent}")
            return file.parent
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{i}" for i in range(2, 1000))]
    return next(parent / name for name in names if not (parent / name).exists())


def write_request(folder: Path, request: Mapping[str, Any]) -> None:
    """Say in a folder which sweep it holds, and that it is not finished."""
    (folder / _DONE).unlink(missing_ok=True)
    write_atomically(folder / FILE, json.dumps(request, indent=1))


def finish_sweep(folder: Path) -> None:
    """Mark a sweep as finished."""
    write_atomically(folder / _DONE, "")


def _refuse_foreign(out: Path, request: Mapping[str, Any]) -> None:
    if out.is_file():
        raise ConfigError(f"{out} is a file; name a folder with --out")
    if not out.is_dir() or is_empty(out):
        return
    there = _read(out / FILE)
    if there is None:
        raise ConfigError(f"{out} holds other files and no sweep; name a new folder with --out")
    if any(there.get(key) != request[key] for key in ("kind", "recipe")):
        raise ConfigError(f"{out} holds a sweep of {there.get('kind')} {there.get('recipe')}; name a new folder")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
