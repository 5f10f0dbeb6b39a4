"""Names that would run, load, colour or compute something, and detectors of those that got through."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

HTML = "</td></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}{% raw %}"
ANSI = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\x00\x08\rall is well"
MARKUP = "[/][bold red]x[link=http://e.vil]y"
EVIL = f"{HTML}{ANSI}{MARKUP}"
FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "  =1+1",
    "\uff1d1+1",
    "a;=1+1",
    "a\n=1",
]


def runs_a_formula(table: str) -> list[str]:
    """Cells that a spreadsheet of any language would run, but for numbers."""
    found = []
    table = table.replace("\r\n", "\n").replace("\r", "\n")  # a lone return is a new line for a spreadsheet
    for comma in (",", ";", "\t"):
        for row in csv.reader(io.StringIO(table), delimiter=comma):
            found += [one for one in row if one.strip()[:1] in tuple("=+-@\uff1d\uff0b\uff0d\uff20") and one.strip()]
    return [one for one in found if not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", one)]


class Page(HTMLParser):
    """The tags of a page, and what it would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name.startswith("on")]
        self.loads += [str(v) for name, v in attrs if name in ("src", "href") and not str(v).startswith(("data:", "#"))]


def faults_of(page: str) -> list[str]:
    """What a page does that it should not."""
    read = Page(page)
    marks = re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page)
    return [*(tag for tag in read.tags if tag in ("script", "iframe", "object")), *read.loads, *marks]
