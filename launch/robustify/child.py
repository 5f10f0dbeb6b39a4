"""The training in a process of its own: it takes as many devices as there are, and gives them all back."""

from __future__ import annotations

import gc
import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from launch.launchers.job import own_program
from launch.sweep.children import became

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def run_child(words: Sequence[str], lock: int) -> int:
    """The exit code of ``robustclip`` with some words, negative for the signal that ended it; it is told what we are.

    Args:
        words: command and arguments.
        lock: of ``launch.sweep.children.alone``.

    Raises:
        KeyboardInterrupt: somebody pressed Ctrl-C; the child was told too, and has left.
        SystemExit: with code 0, a signal said that this process ends; the child was told, and has left.
    """
    _give_memory_back()
    child = subprocess.Popen(became([*own_program(), *words]), pass_fds=(lock,))
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    told: list[str] = []

    def tell(number: int, frame: FrameType | None) -> None:
        told.append(signal.Signals(number).name)
        child.send_signal(number)
        earlier = before[signal.Signals(number)]
        if callable(earlier):  # it may ask a queue for another turn
            earlier(number, frame)

    for number in _SIGNALS:
        signal.signal(number, tell)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.wait()
        raise
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
    if told and code in (0, *(-number for number in _SIGNALS)):
        print(f"stopped by {told[0]}; the same command goes on", flush=True)
        raise SystemExit(0)
    return code


def _give_memory_back() -> None:
    """Leave the devices' memory to the child: what was measured and judged here is not needed any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
