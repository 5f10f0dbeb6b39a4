"""Text files that people edit: class names, templates, lists and tables, in the encodings that editors write."""

from __future__ import annotations

import codecs
from pathlib import Path

_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MARK = "\ufeff"


def read_text(path: Path, *, name: str | None = None) -> str:
    r"""Return the text of a file: UTF-8, or UTF-16 and UTF-32 with a byte-order mark; lines end with ``\n``.

    Byte-order marks are dropped, also those that joined files have in their middle.

    Args:
        path: of the file.
        name: for messages, where ``path`` is only a copy of what the user named.

    Raises:
        OSError: it cannot be read.
        ValueError: bytes that are not text in its encoding; names the file, the line and what to do.
    """
    content = path.read_bytes()
    mark, encoding = next(((m, e) for m, e in _MARKS if content.startswith(m)), (b"", "utf-8"))
    content = content.removeprefix(mark)
    where = name or str(path)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, errors="replace").count("\n") + 1
        kind, found = "-".join(encoding.upper().split("-")[:2]), content[error.start : error.start + 1].hex()
        raise ValueError(f"line {line} of '{where}' is not {kind} text (byte 0x{found}); save it as UTF-8") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"line {line} of '{where}' holds a zero byte, so it is no UTF-8 text; save it as UTF-8")
    return text.replace(_MARK, "").replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, *, name: str | None = None) -> list[tuple[int, str]]:
    """Return the lines of a file that are not blank, without surrounding space, each with its number from 1.

    Args:
        path, name: as in ``read_text``.

    Raises:
        OSError, ValueError: as in ``read_text``.
    """
    lines = enumerate(read_text(path, name=name).split("\n"), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]
