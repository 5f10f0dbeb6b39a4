"""Faults of a data set, gathered so that all of them are told at once, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

_TOLD = 5  # faults named in the one line of an error


class OneLineError(ValueError):
    """A fault that is told in one line, also when a worker process has wrapped its whole history around it."""

    def __init__(self, message: str, *more: object) -> None:
        if "Original Traceback" in message:
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(message, *more)


class BadShareError(OneLineError):
    """More of a data set is bad than was allowed."""


def refuse_faults(faults: Sequence[str], where: object, remedy: str = "") -> None:
    """Do nothing if there are no faults.

    Args:
        faults: one phrase each, saying where and what.
        where: what they were found in.
        remedy: what to do about them.

    Raises:
        ValueError: one line with the number of faults and the first few of them.
    """
    if not faults:
        return
    more = f"; and {len(faults) - _TOLD} more" if len(faults) > _TOLD else ""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    told = "; ".join(faults[:_TOLD])
    raise ValueError(f"'{where}' has {count}: {told}{more}" + (f"; {remedy}" if remedy else ""))
