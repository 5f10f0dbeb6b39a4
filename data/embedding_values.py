"""What must hold of the rows of an embedding table before a prior may learn from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

TOLERANCE = 1e-3  # of the norm: half precision stays inside
_CHUNK = 1 << 24  # numbers looked at together


def row_faults(read: Callable[[int, int], Tensor], shape: tuple[int, ...], *, unit: bool, zero: bool) -> Counter[str]:
    """How many rows of a table break which rule: "not finite", "zero", "not of unit length".

    Args:
        read: (start, stop) -> those rows, of any float type.
        shape: of the table, [N, ...].
        unit: rows must have length 1.
        zero: rows must not be zero.
    """
    counts: Counter[str] = Counter()
    width = max(1, torch.Size(shape[1:]).numel())
    step = max(1, _CHUNK // width)
    for start in range(0, shape[0], step):
        rows = read(start, min(start + step, shape[0])).float().flatten(1)
        norms = torch.linalg.vector_norm(rows, dim=1)
        finite = norms.isfinite()
        nothing = norms == 0
        counts["not finite"] += int((~finite).sum())
        if zero or unit:
            counts["zero"] += int(nothing.sum())
        if unit:
            counts["not of unit length"] += int((finite & ~nothing & ((norms - 1).abs() > TOLERANCE)).sum())
    return +counts


def phrases(counts: Counter[str], name: str, remedy: str = "normalise them") -> list[str]:
    """The faults of one table in words; ``remedy`` is for rows of another length."""
    told = []
    for what, count in counts.items():
        rows = f"1 row of '{name}' is" if count == 1 else f"{count} rows of '{name}' are"
        told.append(f"{rows} {what}" + (f" ({remedy})" if what == "not of unit length" else ""))
    return told
