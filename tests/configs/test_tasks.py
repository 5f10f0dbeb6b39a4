"""Faults of tasks: a row bears the name of a preset only where everything is as the preset has it."""

from __future__ import annotations

import pytest

from configs.files import ConfigError
from configs.load import load_config

DATA = "tasks.nights.shards=somewhere"


@pytest.mark.parametrize("said", [(), ("threat.norm=l2", "threat.eps=3"), ("tasks.nights.choice.framing=crop",)])
def test_the_preset_takes_what_its_paper_takes(said: tuple[str, ...]) -> None:
    assert load_config("evaluate", "rclip-nights", [DATA, *said]).protocol == "rclip-nights"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("tasks.nights.choice.target=all", "tasks.nights: target is not that of rclip-nights"),
        ("tasks.nights.choice.ask=odd_one_out", "ask is not that"),
        ("tasks.nights.choice=null", "ask is not that"),
        ("tasks.nights.split=val", "split is not that"),
        ("tasks.nights.limit=10", "limit is not that"),
        ("attacks.apgd.steps=20", "attacks: none is APGD"),
        ("attacks={square: {}}", "attacks: none is APGD"),
        ("threat.eps=${px:8}", "threat: rclip-nights is linf 4/255 or l2 3"),
        ("threat.norm=l2", "threat: rclip-nights is linf 4/255 or l2 3"),
    ],
)
def test_other_settings_must_not_bear_its_name(said: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config("evaluate", "rclip-nights", [DATA, said])
    assert load_config("evaluate", "rclip-nights", [DATA, said, "protocol=ours"]).protocol == "ours"


def test_an_attack_beside_it_may_be_any(said: str = "attacks.square={queries: 5}") -> None:
    assert load_config("evaluate", "rclip-nights", [DATA, said]).protocol == "rclip-nights"


@pytest.mark.parametrize("key", ["limit", "first"])
@pytest.mark.parametrize("count", [0, -3])
def test_a_task_of_no_image_is_refused(key: str, count: int) -> None:
    with pytest.raises(ConfigError, match=f"tasks.digits.{key} is {count}; it must be at least 1, or null"):
        load_config("evaluate", "digits", ["prior=x", f"tasks.digits.{key}={count}"])
