"""The folder for what can be had again, files that are either whole or absent, and locks between processes."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from data.home import at_home


def cache_folder() -> Path:
    """Where this user keeps what can be had again: ``ROBUSTCLIP_CACHE``, or ``robustclip`` in the XDG cache."""
    if told := os.environ.get("ROBUSTCLIP_CACHE"):
        return at_home(told)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "robustclip"


def name_in_cache(place: str, ending: str = "") -> str:
    """A file name that stands for one address or path and still shows its last part."""
    last = re.sub(r"[^A-Za-z0-9._-]", "_", place.split("?")[0].rstrip("/").rpartition("/")[2])[-60:]
    return f"{blake2b(place.encode(), digest_size=10).hexdigest()}-{last}{ending}"


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to a temporary name beside ``path``, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Whether this process alone holds the lock file ``path`` within the block; it ends with the process too.

    Args:
        path: of the lock file, which is made and stays.
        wait: for others to let go of it; without it, the answer is False while somebody holds it.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)
