"""Texts laid end to end in one row of bytes, so that millions of them are two tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PackedStrings:
    """N texts as UTF-8.

    Attributes:
        text: all bytes, [bytes] uint8.
        ends: where each text ends in ``text``, [N] int64.
    """

    text: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> str:
        start = int(self.ends[row - 1]) if row else 0
        return bytes(self.text[start : int(self.ends[row])].numpy()).decode()

    def empty(self) -> int:
        """How many texts have no character."""
        return int((self.ends.diff(prepend=self.ends.new_zeros(1)) == 0).sum())

    def share(self) -> PackedStrings:
        """The same texts in memory that worker processes share instead of copying."""
        return PackedStrings(self.text.share_memory_(), self.ends.share_memory_())


def pack_strings(texts: Sequence[str]) -> PackedStrings:
    """The texts, packed."""
    encoded = [text.encode() for text in texts]
    content = np.frombuffer(b"".join(encoded), dtype=np.uint8).copy()
    return PackedStrings(
        torch.from_numpy(content), torch.tensor(list(accumulate(map(len, encoded))), dtype=torch.int64)
    )


def packing_fault(strings: PackedStrings, what: str) -> str | None:
    """What is wrong with the table of ends, if anything; the bytes are not looked at."""
    text, ends = strings.text, strings.ends
    if text.dtype != torch.uint8 or ends.dtype != torch.int64 or text.ndim != 1 or ends.ndim != 1:
        return f"the {what}s are not bytes and their ends"
    if len(ends) and (int(ends[0]) < 0 or bool((ends.diff() < 0).any()) or int(ends[-1]) != len(text)):
        return f"the ends of the {what}s do not fit their {len(text)} bytes"
    return None
