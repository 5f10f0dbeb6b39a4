"""Files that are either whole or absent, and the one error that users meet."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class ConfigError(ValueError):
    """What the user asked for cannot be done: one line that says what, where and what to do instead."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write ``content`` to a temporary name beside ``path``, flush it to disk, rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
