"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

STARTED_BY = "ROBUSTCLIP_STARTED_BY"
"""Variable by which a process tells the processes that it starts its number."""
_SET_SIGNAL_OF_PARENTS_END = 1  # PR_SET_PDEATHSIG of Linux


def end_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Have the system send this process a signal once its parent is gone; elsewhere than on Linux, nothing.

    A parent that was killed can tell its children nothing: readers of data, and processes of a training that wait for
    others, would stay.

    Args:
        number: of the signal.
        parent: its number, where that is known; it may have ended before this call.
    """
    if sys.platform != "linux":
        return
    parent = parent or os.getppid()
    ctypes.CDLL(None).prctl(_SET_SIGNAL_OF_PARENTS_END, int(number))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
