"""Ranges and kinds of settings, declared as annotations of the fields and checked by ``configs.values``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Bounds of a number, both allowed; ``above`` is a lower bound that is not."""

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def fault(self, value: float) -> str:
        """Return why a number is out of range, in words; empty where it is not. NaN always is."""
        if value != value:
            return "it must be a number"
        if self.above is not None and not value > self.above:
            return f"it must be above {self.above:g}"
        if self.least is not None and not value >= self.least:
            return f"it must be at least {self.least:g}"
        if self.most is not None and not value <= self.most:
            return f"it must be at most {self.most:.10g}"
        return ""


FILE = "a path on this machine"

Count = Annotated[int, Range(least=1)]
Amount = Annotated[int, Range(least=0)]
Seed = Annotated[int, Range(least=0, most=2**32 - 1)]  # what numpy and Lightning take
Share = Annotated[float, Range(least=0, most=1)]
Positive = Annotated[float, Range(above=0)]
File = Annotated[str, FILE]
"""A leading ``~`` is expanded when the config is checked."""
