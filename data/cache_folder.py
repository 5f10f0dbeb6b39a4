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

    On a file system without locks nobody waits: files are whole or absent there too, and may be fetched twice.

    Args:
        path: of the lock file, which is made and stays.
        wait: for others to let go of it; without it, the answer is False while somebody holds it.

    Raises:
        OSError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        remedy = "name another cache with ROBUSTCLIP_CACHE or data.cache_dir"
        raise OSError(f"cannot write to the cache '{path.parent}': {error.strerror}; {remedy}") from error
    try:
        got = flock(handle, wait=wait)
        yield wait if got is None else got
    finally:
        os.close(handle)


def flock(handle: int, *, wait: bool) -> bool | None:
    """Whether this process now has the lock of an open file; None where its file system has no locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True
