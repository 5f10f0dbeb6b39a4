"""Reading from many files at any place, a few of them kept open."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

_KEPT = 256


class OpenFiles:
    """Pieces of files by number; the files used last stay open, in each process its own.

    A file that is removed or replaced meanwhile is still read as it was when it was opened.

    Args:
        opener: a new file descriptor for a number, which is closed here.
        kept: files that stay open; as many as a process may well have, where it is not said.
    """

    def __init__(self, opener: Callable[[int], int], *, kept: int | None = None) -> None:
        self._opener, self._limit, self._process = opener, kept or _affordable(), os.getpid()
        self._handles: OrderedDict[int, int] = OrderedDict()
        weakref.finalize(self, _close, self._handles)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on; fewer where the file ends."""
        handle = self._handle(number)
        content = os.pread(handle, size, offset)
        while 0 < len(content) < size and (more := os.pread(handle, size - len(content), offset + len(content))):
            content += more
        return content

    def expect(self, number: int, offset: int, size: int) -> None:
        """Have the system fetch what will be read soon, without waiting for it."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._handle(number), offset, size, os.POSIX_FADV_WILLNEED)

    def _handle(self, number: int) -> int:
        if os.getpid() != self._process:  # after a fork: these are copies of the parent's
            _close(self._handles)
            self._process = os.getpid()
        handle = self._handles.get(number)
        if handle is None:
            handle = self._handles[number] = self._opener(number)
            if len(self._handles) > self._limit:
                os.close(self._handles.popitem(last=False)[1])
        else:
            self._handles.move_to_end(number)
        return handle

    def close(self) -> None:
        """Close them all; the next read opens anew."""
        _close(self._handles)

    def __getstate__(self) -> dict[str, Any]:
        return {"_opener": self._opener, "_limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_opener"], kept=state["_limit"])


def _affordable() -> int:
    """Return a quarter of the files that this process may have open, and not many."""
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _KEPT if soft == resource.RLIM_INFINITY else max(1, min(_KEPT, soft // 4))


def _close(handles: OrderedDict[int, int]) -> None:
    while handles:
        os.close(handles.popitem()[1])
