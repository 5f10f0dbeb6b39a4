"""Which samples have been found bad: counted once each, by all readers, and told from process to process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from data.faults import BadShareError

REASONS = (
    "empty",
    "not an image",
    "too many pixels",
    "undecodable",
    "no picture",
    "several pictures",
    "bad label",
    "bad caption",
    "unreadable",
    "no caption",
    "unsupported format",
    "no label",
)


class Found(Protocol):
    """What a reader has found bad, in a form that processes can tell each other."""

    def news(self) -> Any:
        """What other processes should hear."""
        ...

    def take(self, news: Any, rank: int, /) -> None:
        """What the process of that rank tells."""
        ...

    def check(self) -> None:
        """Raise a ValueError where more is bad than may be."""
        ...

    def counts(self) -> dict[str, Any]:
        """Plain values: ``samples``, ``bad`` and ``refused`` by reason, ``lost``."""
        ...

    def plain(self) -> dict[str, Any]:
        """What a checkpoint keeps; empty where nothing is bad."""
        ...

    def restore(self, state: dict[str, Any], /) -> None:
        """Go on from what a checkpoint kept."""
        ...


class BadSamples:
    """The bad samples of a source, each with its reason; one byte a sample, shared by the reading processes.

    Args:
        count: samples of the source.
        name: of the source, for messages.
        lost: samples that were there once and that its damaged shards no longer hold.
        refused: members of its tars, by reason.

    Attributes:
        max_share: of bad and lost samples, above which ``check`` refuses to go on.
    """

    def __init__(self, count: int, name: str, *, lost: int = 0, refused: Mapping[str, int] | None = None) -> None:
        self.name, self.lost, self.max_share = name, lost, 1.0
        self.refused = refused or {}
        self._why = torch.zeros(count, dtype=torch.uint8).share_memory_()
        self._told: set[int] = set()

    def __contains__(self, index: int) -> bool:
        return bool(self._why[index])

    def note(self, indices: Sequence[int], reason: str) -> None:
        """These samples are bad for this reason.

        Raises:
            ValueError: more are bad now than may be.
        """
        self._why[list(indices)] = REASONS.index(reason) + 1
        self.check()

    def by_reason(self) -> dict[str, int]:
        """How many samples are bad, by reason."""
        counts = torch.bincount(self._why.to(torch.int64), minlength=len(REASONS) + 1)[1:].tolist()
        return {reason: count for reason, count in zip(REASONS, counts, strict=True) if count}

    def found(self) -> dict[int, int]:
        """All bad samples with the numbers of their reasons."""
        places = self._why.nonzero().flatten()
        return dict(zip(places.tolist(), self._why[places].tolist(), strict=True))

    def news(self) -> dict[int, int]:
        """Those that this process has neither told of nor heard of before."""
        new = {index: why for index, why in self.found().items() if index not in self._told}
        self._told.update(new)
        return new

    def take(self, news: Mapping[int, int], rank: int | None = None, /) -> None:
        """These were found bad by another process, or before; what is no sample of this source is left out."""
        known = {int(i): int(why) for i, why in news.items() if 0 <= i < len(self._why) and 0 < why <= len(REASONS)}
        if known:
            self._why[list(known)] = torch.tensor(list(known.values()), dtype=torch.uint8)
        self._told.update(known)

    def counts(self) -> dict[str, Any]:
        """How many samples there are, how many of them are bad and which members are refused, by reason, and lost."""
        refused = dict(sorted(self.refused.items()))
        return {"samples": len(self._why), "bad": self.by_reason(), "lost": self.lost, "refused": refused}

    def plain(self) -> dict[str, list[int]]:
        """What a checkpoint keeps; empty where nothing is bad."""
        found = self.found()
        return {"samples": list(found), "reasons": list(found.values())} if found else {}

    def restore(self, state: Mapping[str, list[int]]) -> None:
        """Go on from what a checkpoint kept."""
        self.take(dict(zip(state.get("samples", ()), state.get("reasons", ()), strict=True)))

    def check(self) -> None:
        """Refuse to go on where more are bad or lost than ``max_share`` allows.

        Raises:
            ValueError: how many, of how many, and why.
        """
        bad, total = int(self._why.count_nonzero()) + self.lost, len(self._why) + self.lost
        refuse_share(bad, total, self.max_share, self.name, self.by_reason(), self.lost)


def refuse_share(bad: int, total: int, allowed: float, name: str, by_reason: Mapping[str, int], lost: int = 0) -> None:
    """Do nothing where the share of bad samples is allowed.

    Raises:
        ValueError: how many, of how many, and why.
    """
    if bad <= allowed * total:
        return
    reasons = {**by_reason, **({"lost with damaged shards": lost} if lost else {})}
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    raise BadShareError(
        f"{bad} of {total} images of '{name}' are bad ({told}), more than data.max_bad = {allowed:g} "
        "allows; robustclip data check lists them; repair them or raise data.max_bad"
    )
