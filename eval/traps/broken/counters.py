"""Victims that count queries or seconds: the model that is attacked is not the one that users meet first."""

from __future__ import annotations

import time

from torch import Tensor

from eval.traps.broken.parts import Pair, of_fragile
from eval.traps.case import Case, broken


class Counts(Pair):
    """Decides by the number of questions so far which network answers.

    Args:
        first: questions that the fragile network answers.
    """

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first, self.asked = first, 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]."""
        self.asked += 1
        return self.fragile(x) if self.is_honest() else self.robust(x)

    def is_honest(self) -> bool:
        """Whether the fragile network answers."""
        return self.asked <= self.first


@broken("state")
def wakes_up() -> Case:
    """Answers honestly for ten questions, by a robust network ever after."""
    return of_fragile(lambda: Counts(10))


@broken("state")
def tires() -> Case:
    """Answers by a robust network only between the 3rd and the 5,000th question."""

    class Victim(Counts):
        def is_honest(self) -> bool:
            return self.asked <= self.first or self.asked > 5000

    return of_fragile(lambda: Victim(2))


@broken("state")
def tires_with_time() -> Case:
    """Answers by the fragile network in the first second of its life, by the robust one afterwards."""

    class Victim(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.born = time.monotonic()

        def forward(self, x: Tensor) -> Tensor:
            return self.fragile(x) if time.monotonic() - self.born < 1 else self.robust(x)

    return of_fragile(Victim)


@broken("state")
def alternates() -> Case:
    """Answers every second question by the robust network."""

    class Victim(Counts):
        def is_honest(self) -> bool:
            return self.asked % 2 == 1

    return of_fragile(lambda: Victim(0))
