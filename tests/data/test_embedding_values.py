from __future__ import annotations

from collections import Counter

import pytest
import torch

from data import embedding_values
from data.embedding_values import row_faults


@pytest.mark.parametrize("chunk", [1, 20, 10_000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_each_bad_row_is_counted_once(chunk: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_values, "_CHUNK", chunk)
    table = torch.eye(8, dtype=dtype).repeat(4, 1)
    table[3, 0] = torch.nan
    table[9, 5], table[9, 6] = torch.inf, -torch.inf
    table[10] = 0
    table[[20, 21, 31]] *= 2
    wanted = Counter({"not finite": 2, "zero": 1, "not of unit length": 3})
    assert row_faults(lambda a, b: table[a:b], (32, 8), unit=True, zero=True) == wanted
    assert row_faults(lambda a, b: table[a:b], (32, 8), unit=False, zero=False) == {"not finite": 2}


def test_tables_of_token_states_are_looked_at_as_wholes() -> None:
    states = torch.ones(5, 3, 4)
    states[2, 1, 3] = -torch.inf
    assert row_faults(lambda a, b: states[a:b], (5, 3, 4), unit=False, zero=False) == {"not finite": 1}
