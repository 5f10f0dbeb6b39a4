from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.index_file import ShardIndex, index_tar
from data.keys import ChosenKeys, ShardKeys
from data.source import SelectedImages, TensorImages

MakeTar = Callable[..., Path]


@pytest.fixture
def indexes(tmp_path: Path, make_tar: MakeTar) -> list[ShardIndex]:
    names = [["a", "bé/c"], [], ["d", "e", "f"]]
    return [
        index_tar(make_tar(tmp_path / f"{i}.tar", [(f"{key}.txt", b"") for key in keys]))
        for i, keys in enumerate(names)
    ]


def test_keys_are_a_list_that_is_decoded_when_asked(indexes: list[ShardIndex]) -> None:
    keys, told = ShardKeys(indexes, ["0", "1", "2"]), ["a", "bé/c", "d", "e", "f"]
    assert keys == told and told == keys and list(keys) == told and len(keys) == 5
    assert [keys[i] for i in range(5)] == told and [keys[i] for i in range(-5, 0)] == told
    assert keys[1:4] == told[1:4] and keys[::-2] == told[::-2] and "e" in keys and keys.index("d") == 2
    assert keys != told[:4] and keys != [*told[:4], "x"] and keys != "abdef"
    assert keys == pickle.loads(pickle.dumps(keys))
    with pytest.raises(IndexError):
        keys[5]
    assert repr(keys) == "<5 keys: 'a', 'bé/c', 'd', ...>"


def test_some_keys_are_named_by_their_indices(indexes: list[ShardIndex]) -> None:
    chosen = ChosenKeys(ShardKeys(indexes, ["0", "1", "2"]), np.array([4, 0, 2]))
    assert chosen == ["f", "a", "d"] and chosen[1:] == ["a", "d"] and chosen[-1] == "d"


def test_hashes_that_agree_by_chance_do_not_make_keys_equal(indexes: list[ShardIndex]) -> None:
    from dataclasses import replace

    same = [replace(index, key_hash=np.zeros_like(index.key_hash)) for index in indexes]
    assert ShardKeys(same, ["0", "1", "2"])[0] == "a"
    assert ShardKeys([*same, same[0]], ["0", "1", "2", "3"])[:2] == ["0/a", "0/bé/c"]


def test_a_choice_keeps_an_order_of_shards_and_a_draw_does_not() -> None:
    import torch

    from data.shard_order import ShardOrder

    source = TensorImages(torch.zeros(6, 3, 2, 2), torch.zeros(6), classes=["x"])
    source.shuffle = ShardOrder([2, 4], 1)
    some = SelectedImages(source, [1, 3, 5]).shuffle
    assert isinstance(some, ShardOrder) and some.counts.tolist() == [1, 2]
    assert SelectedImages(source, [5, 3]).shuffle is True
