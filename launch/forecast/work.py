"""What one sample of a training costs, whatever trains it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A pass that every sample makes.

    Attributes:
        name: what it is.
        times: how often a sample makes it.
        flops: of one sample, once.
    """

    name: str
    times: float
    flops: int


@dataclass(frozen=True)
class Work:
    """A training, as its cost depends on it.

    Attributes:
        unit: what a sample is called.
        parts: the passes of a sample.
        parameters: numbers that are trained.
        frozen: numbers that are only read: the original encoder, towers that complete pairs.
        averaged: a moving average of the trained numbers is kept.
        kept: bytes that a sample keeps for the backward pass, in the pass that keeps most.
        kept_once: bytes that any batch keeps.
        sample_bytes: of a stored sample.
        assumed: how ``sample_bytes`` is known, in words.
        left_out: what the operations do not count, in words.
        exported: numbers of the finished weights; None for those that are trained.
    """

    unit: str
    parts: tuple[Part, ...]
    parameters: int
    frozen: int
    averaged: bool
    kept: int
    kept_once: int
    sample_bytes: int
    assumed: str
    left_out: str
    exported: int | None = None

    @property
    def flops(self) -> float:
        """Of one sample in one step."""
        return sum(part.times * part.flops for part in self.parts)

    @property
    def checkpoint_bytes(self) -> int:
        """Of a training checkpoint: weights, two averages of AdamW, and the moving average of the weights."""
        return 4 * self.parameters * (4 if self.averaged else 3)

    @property
    def export_bytes(self) -> int:
        """Of the finished weights."""
        return 4 * (self.parameters if self.exported is None else self.exported)
