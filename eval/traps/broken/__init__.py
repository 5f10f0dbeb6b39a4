"""Traps whose robustness is only apparent, a file for each way to deceive."""

from eval.traps.broken import (
    counters,
    coupling,
    gradients,
    numbers,
    pixels,
    plateaus,
    routers,
    state,
    trainings,
    watching,
)

__all__ = [
    "counters",
    "coupling",
    "gradients",
    "numbers",
    "pixels",
    "plateaus",
    "routers",
    "state",
    "trainings",
    "watching",
]
