"""Short names of keys: what they stand for, and what is no eps."""

from __future__ import annotations

import pytest

from configs.files import ConfigError
from configs.load import load_config
from launch.shorts import told_in_full


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("eps=4", "threat.eps=${px:4}"),
        ("eps=0.5", "threat.eps=${px:0.5}"),
        ("eps=4/255", "threat.eps=${px:4}"),
        ("eps=0", "threat.eps=${px:0}"),
        ("lr=1e-5", "optimizer.lr=1e-5"),
        ("data=digits", "data.shards=digits"),
        ("data={shards: digits}", "data={shards: digits}"),
        ("threat.eps=0.01", "threat.eps=0.01"),
        ("seed=1", "seed=1"),
        ("word", "word"),
    ],
)
def test_a_short_name_stands_for_a_key(typed: str, full: str) -> None:
    assert told_in_full(typed) == full


@pytest.mark.parametrize("typed", ["eps=", "eps=four", "eps=-1", "eps=0.016", "eps=[2,4]", "eps=4/256"])
def test_what_is_no_number_of_255ths_is_refused_in_a_line(typed: str) -> None:
    with pytest.raises(ConfigError) as told:
        told_in_full(typed)
    assert len(str(told.value).splitlines()) == 1 and typed in str(told.value)


def test_eps_of_4_is_four_grey_levels() -> None:
    assert load_config("finetune", "fare_tiny_eps4", [told_in_full("eps=2")]).threat.eps == 2 / 255
