"""Words of strangers, without what a terminal would act on, and cells that no spreadsheet takes for formulas."""

from __future__ import annotations

import re
import unicodedata

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|\x9b[0-?]*[@-~]")
_FORMULA = re.compile(r"(^|[;\t\r\n])(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")


def plain(text: object, *, keep_lines: bool = False) -> str:
    """``text`` without terminal escapes, control and invisible direction characters."""
    if keep_lines:
        return "\n".join(plain(line) for line in str(text).expandtabs(2).splitlines())
    spaced = "".join(" " if c.isspace() else c for c in _ESCAPES.sub("", str(text)))
    shown = (c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return " ".join("".join(shown).split())


def cell(value: object) -> object:
    """A value for a CSV file: text is ``plain`` and ``quoted``, anything else is as it is."""
    return quoted(plain(value)) if isinstance(value, str) else value


def quoted(text: str) -> str:
    """Text with an apostrophe before what a spreadsheet would run: ``=``, ``+``, ``-``, ``@``, and their wide forms.

    That is at the beginning, and after what parts cells for spreadsheets of other languages: semicolons, tabs, lines.
    """
    return _FORMULA.sub(r"\1\2'", text)
