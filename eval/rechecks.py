"""The same points, looked at again: stored with 8 bits, and by a copy of the defense that remembers nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from data.batches import ImageBatch
from eval.outcomes import CLEAN, Cell
from modules.defenses.base import Defense
from modules.perturb.threat import Threat

if TYPE_CHECKING:
    from eval.judge import Judge

ROUNDED, AFRESH = "rounded", "afresh"
Flags = list[list[bool]]


class Rechecks:
    """What becomes of attacked images when they are looked at again; the worse counts.

    - ``rounded``: as pictures of 8 bits inside the ball, which is what images are; a defense that answers otherwise off
      the grid of grey levels has been attacked off the grid only.
    - ``afresh``: by a copy of the defense as it was handed in, made anew for every question; a defense that remembers
      what it was asked has an attacker who asks it once.

    Attributes:
        uncopied: why a defense cannot be copied, by its name; it is not looked at afresh.

    Args:
        judge: who holds the defenses, before it has asked them anything.
    """

    def __init__(self, judge: Judge) -> None:
        self.names = judge.plan.config.rechecks
        self.uncopied: dict[str, str] = {}
        self._judge = judge
        self._untouched: dict[str, Defense] = {}
        if AFRESH in self.names:
            for name, defense in judge.defenses.items():
                try:
                    self._untouched[name] = copy.deepcopy(defense)
                except Exception as error:  # a stranger's class may fail in any way
                    self.uncopied[name] = f"{type(error).__name__}: {error}".splitlines()[0]

    def fresh(self, name: str) -> Defense | None:
        """The defense as it was before anybody asked it anything; None where it cannot be copied."""
        untouched = self._untouched.get(name)
        return None if untouched is None else copy.deepcopy(untouched)

    def of(self, cell: Cell, batch: ImageBatch, x: Tensor) -> dict[str, Flags]:
        """For each way of looking again, one list for each draw of the noise, of one flag per image: it is right.

        Args:
            cell: whose points they are.
            batch: the images.
            x: [B, C, H, W] the points found.
        """
        return {} if cell.attack == CLEAN else dict(self._each(cell, batch, x))

    def _each(self, cell: Cell, batch: ImageBatch, x: Tensor) -> Iterator[tuple[str, Flags]]:
        judge = self._judge
        if ROUNDED in self.names:
            threat = judge.task.threat(Threat(judge.plan.threat.norm, cell.eps))
            yield ROUNDED, judge.right(judge.defenses[cell.defense], batch, threat.rounded(batch.x, x))
        if AFRESH in self.names and (copied := self.fresh(cell.defense)) is not None:
            yield AFRESH, judge.right(copied, batch, x)
            judge.forget(copied)
