"""Work that several processes share without talking: who takes a piece of it says so in a file, and goes on saying so.

A claim is a file that only one process can create.  Whoever holds it touches it every few seconds; a claim that nobody
touches any more, or whose process is known to be gone, has expired, and the next one up may be created.  Claims are
numbered and never removed while the work lasts, so that two processes that find the same claim expired cannot both
succeed it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from configs.files import write_atomically

EXPIRES = 120.0
"""Seconds without a touch after which a claim is anybody's."""


class Claim:
    """A piece of work that is this process's own, until it ends or falls silent; use it in a ``with``.

    Args:
        file: that says so; made by ``take``.
        expires: seconds of silence after which others may take the work.
    """

    def __init__(self, file: Path, expires: float) -> None:
        self.file, self.expires = file, expires
        self._over = threading.Event()
        self._touching = threading.Thread(target=self._touch, daemon=True)

    def __enter__(self) -> Self:
        self._touching.start()
        return self

    def _touch(self) -> None:
        while not self._over.wait(self.expires / 6):
            try:
                os.utime(self.file)
            except OSError:
                continue  # a network's disk may come back; others see the silence

    def is_mine(self) -> bool:
        """Whether nobody has taken the work over; somebody has where this process was stopped for long."""
        return _newest(self.file.parent) == self.file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._touching.join()
        if self.file.parent.is_dir():
            write_atomically(self.file, json.dumps({"released": True}))


def take(folder: Path, expires: float = EXPIRES) -> Claim | None:
    """The claim on the work that a folder stands for; None where it is another process's.

    Args:
        folder: of this piece of work alone; made where it is missing.
        expires: seconds of silence after which a claim is anybody's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    newest = _newest(folder)
    if newest is not None and not _expired(newest, expires):
        return None
    number = 1 if newest is None else int(newest.stem.split("-")[1]) + 1
    file = folder / f"claim-{number:06d}.json"
    said = json.dumps({"host": _machine(), "pid": os.getpid()})
    return Claim(file, expires) if created(file, said) else None


def _newest(folder: Path) -> Path | None:
    return max(folder.glob("claim-*.json"), default=None)


def created(file: Path, text: str) -> bool:
    """Whether this process, and no other, made a file; it is there with all of its text or not at all."""
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.link(temporary, file)  # fails where the name is taken, also over a network
        return True
    except FileExistsError:
        return False
    except OSError:  # no second names on this disk
        try:
            with file.open("x", encoding="utf-8") as made:
                made.write(text)
            return True
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)


def _expired(file: Path, expires: float) -> bool:
    try:
        said, touched = json.loads(file.read_text(encoding="utf-8") or "{}"), file.stat().st_mtime
    except (OSError, ValueError):
        return False  # written at this very moment
    if said.get("released") or (said.get("host") == _machine() and not _lives(int(said.get("pid", 0)))):
        return True
    return _now(file.parent) - touched > expires


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _now(folder: Path) -> float:
    """The time by the clock that stamps this folder's files; another machine's may differ from ours."""
    probe = folder / f".now.{uuid.uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _machine() -> str:
    """Where a process number means a process: host, its start, and the container's own numbering."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        parts.append(str(uuid.getnode()))
    return " ".join(parts)
