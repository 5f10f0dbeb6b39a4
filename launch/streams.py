"""Standard streams that never end a command: any encoding, any width, a reader that is gone, no terminal at all."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
import unicodedata
from typing import Any

_PLAIN = {"–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "·": ".", "•": "*", "→": "->", "←": "<-"}
_PLAIN |= {
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "✓": "+",
    "✗": "x",
    "ε": "eps",
    "∞": "inf",
}
_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # the reader has left, the terminal was closed
_LIMITS = {"COLUMNS": (20, 1000), "LINES": (5, 1000)}
_failures: list[OSError] = []


def prepare_streams() -> None:
    """Make standard input, output and error safe to use, whatever this process was started with.

    Characters that the encoding lacks are replaced by plain ones; what nobody reads any more is dropped; closed
    streams become ``/dev/null``, as the next file that is opened would otherwise take their place; a width that no
    terminal has is corrected or ignored.
    """
    _failures.clear()
    codecs.register_error("readable", readable)
    _open_closed()
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream: Any = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and _is_file(stream, fd):
            stream.flush()
            raw = _UnfailingFile(fd, "wb", closefd=False)
            buffering = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
            file: Any = raw if stream.write_through else io.BufferedWriter(raw)  # PYTHONUNBUFFERED stays so
            setattr(sys, name, io.TextIOWrapper(file, stream.encoding, "readable", **buffering))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="readable")
    _correct_size()


def lost_output() -> str:
    """Return why standard output could not be written, such as a full disk; empty where the reader merely left."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    return os.strerror(_failures[0].errno or 0) if _failures else ""


def readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace what an encoding lacks, as an error handler of ``codecs``: box lines, dashes and accents become ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    if all("\udc80" <= c <= "\udcff" for c in text):  # bytes of a path that were not text; the terminal may know them
        return text.encode("utf-8", "surrogateescape"), error.end
    return "".join(map(_plain, text)), error.end


def _plain(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    code = ord(character)
    if 0x2500 <= code <= 0x257F:  # box drawing
        return "-" if character in "─━═╌┄┈╴╶╸╺╼╾" else "|" if character in "│┃║╎┆┊╵╷╹╻╽╿" else "+"
    if 0x2580 <= code <= 0x28FF:  # blocks, shapes, the dots of a spinner
        return "*"
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


class _UnfailingFile(io.FileIO):
    """A file whose writes succeed also when nobody reads it any more."""

    def write(self, data: Any, /) -> int:
        try:
            while (count := super().write(data)) is None:  # a pipe that does not block, and is full
                select.select([], [self.fileno()], [])
            return count
        except OSError as error:
            if error.errno in _GONE:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.fileno())
                os.close(nowhere)
            elif self.fileno() == 1:
                _failures.append(error)
            return memoryview(data).nbytes


def _open_closed() -> None:
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(fd, True)
            if getattr(sys, name) is None:
                stream = open(fd, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)
                setattr(sys, f"__{name}__", stream)


def _is_file(stream: Any, fd: int) -> bool:
    try:
        return stream.fileno() == fd
    except (AttributeError, OSError, ValueError):
        return False


def _correct_size() -> None:
    for name, (low, high) in _LIMITS.items():
        if name in os.environ:
            try:
                size = int(os.environ[name])
            except ValueError:
                size = 0
            if size < 1:
                del os.environ[name]
            else:
                os.environ[name] = str(min(max(size, low), high))
