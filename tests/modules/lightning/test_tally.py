from __future__ import annotations

import pytest
import torch

from modules.lightning.tally import Tally


def test_every_sample_counts_once_however_batches_are_cut() -> None:
    values = torch.rand(10, generator=torch.Generator().manual_seed(0))
    tally = Tally(["a", "b"])
    for part in values.split(4):  # 4, 4, 2: a mean of means would be another number
        tally.add({"a": part, "b": part[part > 0.5]})
    assert tally.means() == pytest.approx({"a": values.mean().item(), "b": values[values > 0.5].mean().item()})
    assert tally.means()["a"] != pytest.approx(sum(p.mean().item() for p in values.split(4)) / 3, abs=1e-4)


def test_a_name_without_values_has_no_mean() -> None:
    tally = Tally(["a", "b"])
    tally.add({"a": torch.ones(2), "b": torch.ones(0)})
    assert tally.means() == {"a": 1.0}


def test_processes_are_added_up_even_where_one_saw_nothing() -> None:
    one, other = Tally(["a"]), Tally(["a"])
    one.add({"a": torch.tensor([1.0, 2.0, 6.0])})
    assert one.means(lambda sums: sums + other._sums) == {"a": 3.0}
    assert other.means(lambda sums: sums + one._sums) == {"a": 3.0}
