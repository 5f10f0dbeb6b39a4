"""Processes that outlive the run which they belong to."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

MARK = "ROBUSTCLIP_SELFTEST"
"""Variable that every process of a self-test inherits, so that each of them can be found however it was started."""
_PROC = Path("/proc")


def can_look() -> bool:
    """Whether this system tells what processes there are."""
    return (_PROC / "self" / "environ").is_file()


def marked(value: str) -> dict[int, str]:
    """The processes that inherited the mark, by their numbers, and what they run; those that have ended do not count.

    Args:
        value: of the mark.
    """
    wanted, found = f"{MARK}={value}".encode(), {}
    for folder in _PROC.iterdir() if can_look() else ():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if wanted not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            state = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended just now, or is another user's
            continue
        if state not in "ZX":
            found[int(folder.name)] = b" ".join(words[:6]).decode(errors="replace").strip()
    return found


def wait_until_gone(value: str, known: Collection[int], patience: float) -> tuple[dict[int, str], float]:
    """Those that are still there after so many seconds, and the seconds until the last one had gone.

    Args:
        value: of the mark.
        known: processes that are meant to be there.
        patience: seconds; readers of data notice within five that nobody reads what they read.
    """
    begin = time.monotonic()
    while True:
        left = {number: words for number, words in marked(value).items() if number not in known}
        waited = time.monotonic() - begin
        if not left or waited > patience:
            return left, waited
        time.sleep(0.05)
