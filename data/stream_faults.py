"""What a stream has found bad: totals, since a stream does not know one sample from another."""

from __future__ import annotations

from typing import Any

import torch

from data.bad_samples import REASONS, refuse_share
from data.tars import REFUSALS

_ENOUGH = 1000  # samples, before a share of them means something
_OTHER = "another reason"
_KINDS = ("samples", *REASONS, *REFUSALS, _OTHER)
_BAD = slice(1, 1 + len(REASONS))
_REFUSED = slice(_BAD.stop, len(_KINDS))


class StreamFaults:
    """Counts of samples, bad samples and refused members, one row a reading process; each pass counts anew.

    Args:
        name: of the stream, for messages.
        workers: reading processes.

    Attributes:
        max_share: of bad samples above which ``check`` refuses to go on.
    """

    def __init__(self, name: str, workers: int = 0) -> None:
        self.name, self.max_share = name, 1.0
        self._others: dict[int, list[int]] = {}
        self.read_by(workers)

    def read_by(self, workers: int) -> None:
        """Make room for so many reading processes; what was counted before stays."""
        before = self._own() if hasattr(self, "_rows") else [0] * len(_KINDS)
        self._rows = torch.zeros(max(workers, 1) + 1, len(_KINDS), dtype=torch.int64)
        self._rows[-1] = torch.tensor(before)
        self._rows.share_memory_()

    def note(self, worker: int, what: str, count: int = 1) -> None:
        """A reading process met this: ``samples``, a reason for which one is bad, or for which a member is refused."""
        self._rows[worker, _KINDS.index(what if what in _KINDS else _OTHER)] += count

    def news(self) -> list[int]:
        """This process's totals."""
        return self._own()

    def take(self, news: list[int], rank: int, /) -> None:
        """The totals of another process; a negative rank is the past."""
        self._others[rank] = [int(value) for value in news]

    def check(self) -> None:
        """Refuse to go on where more is bad than ``max_share`` allows.

        Raises:
            ValueError: how many, of how many, and why.
        """
        totals = self._totals()
        bad = sum(totals[_BAD])
        if bad > self.max_share * max(totals[0], _ENOUGH):
            refuse_share(bad, totals[0], self.max_share, self.name, _named(totals, _BAD))

    def counts(self) -> dict[str, Any]:
        """Samples seen, bad ones among them by reason, refused members by reason."""
        totals = self._totals()
        return {"samples": totals[0], "bad": _named(totals, _BAD), "lost": 0, "refused": _named(totals, _REFUSED)}

    def plain(self) -> dict[str, dict[str, int]]:
        """What a checkpoint keeps."""
        return {"totals": dict(zip(_KINDS, self._totals(), strict=True))}

    def restore(self, state: dict[str, Any], /) -> None:
        """Go on from what a checkpoint kept."""
        self._others = {-1: [int(state.get("totals", {}).get(kind, 0)) for kind in _KINDS]}

    def _own(self) -> list[int]:
        return self._rows.sum(dim=0).tolist()

    def _totals(self) -> list[int]:
        return [sum(column) for column in zip(self._own(), *self._others.values(), strict=True)]


def _named(totals: list[int], which: slice) -> dict[str, int]:
    return {kind: count for kind, count in zip(_KINDS[which], totals[which], strict=True) if count}
