from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from data.strings import PackedStrings, pack_strings, packing_fault

Texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=9)


@given(Texts)
def test_what_is_packed_is_read_back(texts: list[str]) -> None:
    packed = pack_strings(texts)
    assert len(packed) == len(texts) and [packed[i] for i in range(len(texts))] == texts
    assert packed.empty() == texts.count("")
    assert packing_fault(packed, "caption") is None


def test_ends_that_do_not_fit_are_found() -> None:
    whole = pack_strings(["ab", "c"])
    for ends in ([2, 4], [3, 2], [-1, 3], [2, 2]):
        assert packing_fault(PackedStrings(whole.text, torch.tensor(ends)), "key")
    assert packing_fault(PackedStrings(whole.text, torch.tensor([2.0, 3.0])), "key")
