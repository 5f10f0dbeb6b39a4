"""Waiting for other processes: for conditions, not for seconds, and long enough for a machine with other work."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

CEILING = 500.0
"""Seconds after which a process counts as hung; less than pytest gives a test, so that its output is still shown."""


def wait_until(condition: Callable[[], T]) -> T:
    """Return a condition's first true value.

    Raises:
        TimeoutError: there was none.
    """
    end = time.monotonic() + CEILING
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"the condition was not met within {CEILING:.0f} s")
        time.sleep(0.02)
    return value


def free_port() -> int:
    """Return a port of this machine that nobody listens on, outside the range from which systems hand out ports."""
    for port in random.SystemRandom().sample(range(10_000, 32_000), 50):
        with socket.socket() as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
