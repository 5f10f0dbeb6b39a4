"""One command at a time writes a folder: a lock that ends with its process, and says who holds it."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from data.cache_folder import flock

log = logging.getLogger(__name__)

FILE = ".lock"
_LEAVING = 30.0  # seconds that processes of a command that was killed have to leave
_WRITING = 1.0  # seconds in which whoever has just locked a folder writes its name


class FolderInUseError(ValueError):
    """Another process writes a folder."""


class FolderLock:
    """A lock on a folder, held by this process until ``release``, or until nothing refers to it.

    It is the system's lock on a file, which ends with the process however that ends.  Processes that are forked do not
    share it; one that is started with ``handle`` does, and the folder is free when the last of them is gone.

    Attributes:
        folder: resolved.
        handle: file descriptor, to be passed to a child that writes the folder too.
    """

    def __init__(self, folder: Path, file: Path, handle: int, made: list[Path]) -> None:
        self.folder, self.handle = folder, handle
        self._release = weakref.finalize(self, _release, file, handle, os.getpid(), made)

    def release(self) -> None:
        """Let go of the folder, and remove the lock's file and the folders that were made for it and are empty."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


_held: weakref.WeakValueDictionary[Path, FolderLock] = weakref.WeakValueDictionary()


def lock_folder(folder: Path, *, beside: bool = False, patience: float = 0.0) -> FolderLock:
    """Lock a folder, which is made where it is missing; the same lock again where this process holds it already.

    Args:
        folder: to be written.
        beside: keep the lock next to the folder, which must not be made yet.
        patience: seconds to wait for another command that holds it.

    Raises:
        FolderInUseError: another process holds it.
        ValueError: nothing can be written there.
    """
    folder = folder.expanduser().absolute()
    home = folder.parent if beside else folder
    file = home / (f".{folder.name}{FILE}" if beside else FILE)
    try:
        made = [place for place in (home, *home.parents) if not place.exists()]
        home.mkdir(parents=True, exist_ok=True)
        key = file.resolve()
        if (known := _held.get(key)) is not None and known._release.alive:
            return known
        handle = _acquire(folder, file, patience)
    except OSError as error:
        raise ValueError(f"cannot write to '{folder}': {error.strerror}; name another folder with --out") from error
    lock = _held[key] = FolderLock(folder, file, handle, made)
    return lock


@contextmanager
def locked_folder(folder: Path, *, beside: bool = False, patience: float = 0.0) -> Iterator[FolderLock]:
    """Hold the lock of a folder within the block; one that this process held before stays held.

    Raises:
        ValueError: as ``lock_folder``.
    """
    held = set(map(id, _held.values()))
    lock = lock_folder(folder, beside=beside, patience=patience)
    try:
        yield lock
    finally:
        if id(lock) not in held:
            lock.release()


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but its lock, which a killed process leaves."""
    return all(path.name == FILE for path in folder.iterdir())


def _acquire(folder: Path, file: Path, patience: float) -> int:
    begin = time.monotonic()
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            got = flock(handle, wait=False)
            holder = _read(handle)
            if got is None:  # this file system has no locks; what the file says is all there is
                got = _lives(holder) is not True
                if got and holder and _lives(holder) is None:
                    log.warning("'%s' was in use by %s, and locks do not work there", folder, _words(holder))
            if got and _is_same(handle, file):
                text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
                os.ftruncate(handle, 0)
                os.pwrite(handle, text.encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        wait = max(patience, _LEAVING if _lives(holder) is False else 0.0 if holder else _WRITING)
        if not got and time.monotonic() - begin > wait:
            line = f"'{folder}' is in use by {_words(holder)}; wait for it to end, or name another folder"
            raise FolderInUseError(line)
        time.sleep(0.05)


def _release(file: Path, handle: int, pid: int, made: list[Path]) -> None:
    if pid == os.getpid():
        with suppress(OSError):
            if _is_same(handle, file):
                file.unlink()
        with suppress(OSError):  # they hold something by now
            for folder in made:
                folder.rmdir()
    with suppress(OSError):
        os.close(handle)


def _forget() -> None:
    """In a forked child: the lock is the parent's, and ends with it."""
    for lock in list(_held.values()):
        lock.release()


os.register_at_fork(after_in_child=_forget)


def release_all() -> None:
    """Release every lock of this process."""
    for lock in list(_held.values()):
        lock.release()


def _is_same(handle: int, file: Path) -> bool:
    """Whether a file still has its name; whoever held its lock may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except OSError:
        return False


def _read(handle: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lives(holder: dict[str, Any]) -> bool | None:
    """Whether a process is at work; None where that cannot be known from this machine."""
    try:
        if holder["host"] != socket.gethostname():
            return None
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return False
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    except OSError:
        return True
    return True


def _words(holder: dict[str, Any]) -> str:
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(holder["since"])))
        return f"process {int(holder['pid'])} on {holder['host']}, since {since}"
    except (KeyError, ValueError, TypeError, OverflowError):
        return "another process"
