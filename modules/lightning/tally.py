"""Means over the samples of several batches and processes, each sample counted once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


class Tally:
    """Sums and counts of named values.

    Every process has the same names from the start, so that a process without a batch, or without a value of some
    name, can take part in the sum.

    Args:
        names: of the values.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._sums = torch.zeros(2, len(self.names), dtype=torch.float64)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count values [B'] of some of the names."""
        for name, value in values.items():
            column = self.names.index(name)
            self._sums[0, column] += float(value.detach().double().sum() if value.device.type != "mps" else value.sum())
            self._sums[1, column] += len(value)

    def means(self, add_up: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """The means, without names that no sample had a value of.

        Args:
            add_up: sums a tensor [2, M] over the processes.
        """
        sums, counts = add_up(self._sums.clone()).tolist()
        return {name: s / n for name, s, n in zip(self.names, sums, counts, strict=True) if n}
