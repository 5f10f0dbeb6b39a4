"""A loss that jumps far above those before it: finite, but often the first sign of a bad batch or of divergence."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

WINDOW = 50
"""Losses whose median is looked at."""
LEAST = 10
"""Losses that must be known before any is judged."""


class LossSpikes:
    """Knows the last losses of a run and says which one stands out.

    A spike joins the others: a median hardly feels one, and a loss that stays high is the rule after half a window.

    Args:
        ratio: a loss above so many times the median of those before it is a spike; must be above 1.
    """

    def __init__(self, ratio: float, /) -> None:
        self.ratio = ratio
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def median_below(self, loss: float) -> float | None:
        """The median that a step's loss is a spike above, None where it is none; the loss is then remembered.

        Args:
            loss: mean over the step's batches and over all processes, so that all of them say the same.
        """
        if not math.isfinite(loss):
            return None  # broken, which others take care of
        median = statistics.median(self._losses) if len(self._losses) >= LEAST else None
        self._losses.append(loss)
        return median if median is not None and 0 < self.ratio * median < loss else None

    def state_dict(self) -> dict[str, Any]:
        """Saved with a checkpoint: a run that goes on judges as one that never stopped."""
        return {"losses": list(self._losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the losses of a checkpoint."""
        self._losses = deque(state["losses"], maxlen=WINDOW)
