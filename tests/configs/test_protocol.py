"""Protocols: overrides that hold for all parts, and a hash that changes with every value."""

from __future__ import annotations

from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.files import ConfigError
from configs.load import recipe_names
from configs.protocol import PLACE, changed, content_of, hash_of, load_protocol, name_of, only_of

NAMES = recipe_names("protocol")


def other(key: Any, value: Any) -> Any:
    """Another value of the same kind."""
    if value is None:
        return {"attacks": {}, "templates": ["{}"]}.get(key, 1)
    if value in ("linf", "l2"):
        return {"linf": "l2", "l2": "linf"}[value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return value[:-1] if value else ["something"]
    return f"{value} else"


def fields_of(node: Any) -> list[tuple[Any, Any, Any]]:
    """(holder, key, value) of every value of a config object, however deep."""
    inner = vars(node) if is_dataclass(node) else node
    found = []
    for key, value in inner.items():
        if is_dataclass(value) or (isinstance(value, dict) and value):
            found += fields_of(value)
        else:
            found.append((inner, key, value))
    return found


def test_all_of_them_are_there() -> None:
    assert NAMES == ["clipure-2025", "fare-2024", "robustbench", "robustclip-scorecard", "ttc-2025"]


@pytest.mark.parametrize("name", NAMES)
def test_the_hash_changes_when_any_value_changes(name: str) -> None:
    config = load_protocol(name)
    seen = {hash_of(config)}
    for holder, key, value in fields_of(config):
        holder[key] = other(key, value)
        place = holder is vars(config) and key in PLACE or key in ("shards", "ids") or holder is vars(config.model)
        assert (hash_of(config) in seen) == place, f"{key}: {value}"
        seen.add(hash_of(config))
    assert len(seen) > 30


def test_where_a_protocol_is_run_is_no_part_of_it() -> None:
    here = load_protocol("ttc-2025")
    there = load_protocol(
        "ttc-2025",
        [
            *("data=/elsewhere", "only=cifar10", "skip_missing=true", "device=cpu", "batch_size=2", "model.name=tiny"),
            *("encoder=ours", "system=FARE4", "sets.cifar10.shards=/x", "ids=list.txt", "allow_count_mismatch=true"),
        ],
    )
    assert hash_of(here) == hash_of(there)
    assert changed("ttc-2025", there) == []
    assert hash_of(here) != hash_of(here, "another catalog")


def test_what_was_changed_is_named() -> None:
    config = load_protocol("fare-2024", ["eps=1,2,4", "attacks.autoattack.steps=5"])
    assert changed("fare-2024", config) == ["attacks.autoattack.steps", "parts.imagenet.eps", "parts.zero_shot.eps"]
    assert [round(255 * eps) for eps in config.parts["imagenet"].eps] == [1, 2, 4]


def test_settings_of_parts_hold_for_all_and_radii_for_their_norm() -> None:
    config = load_protocol("robustbench", ["eps=2", "limit=7", "parts.cifar10.limit=3"])
    assert {name: part.limit for name, part in config.parts.items()} == {"imagenet": 7, "cifar10": 3, "cifar10_l2": 7}
    assert config.parts["cifar10_l2"].eps == [0.5]
    assert config.parts["cifar10"].eps == [pytest.approx(2 / 255)]


def test_all_faults_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        load_protocol("fare-2024", ["only=foo,cifar10", "limit=0", "batchsize=4", "parts.imagenet.eps=[]"])
    lines = str(caught.value).splitlines()
    assert any(line.startswith("batchsize: unknown key 'batchsize'") for line in lines)
    assert "parts.zero_shot.limit is 0; it must be at least 1, or null" in lines
    assert "parts.imagenet.eps is empty; name at least one radius" in lines
    assert any(line.startswith("only: no set is called 'foo'; choose of: cifar10, stl10") for line in lines)
    with pytest.raises(ConfigError, match=r"sets\.cifar11: no such set; choose of: cifar10"):
        load_protocol("fare-2024", ["sets.cifar11.shards=/x"])


def test_only_takes_a_list_or_words() -> None:
    assert only_of(load_protocol("fare-2024")) is None
    assert only_of(load_protocol("fare-2024", ["only=cifar10, stl10"])) == ["cifar10", "stl10"]
    assert only_of(load_protocol("fare-2024", ["only=[cifar10]"])) == ["cifar10"]


def test_a_protocol_of_ones_own_is_a_file(tmp_path: Path) -> None:
    said = {
        "title": "mine",
        "source": "nobody",
        "parts": {"all": {"sets": {"cifar10": {"dataset": "fare/cifar10"}}, "eps": ["${px:1}"]}},
        "attacks": {"pgd": {"steps": 1}},
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(said))
    assert load_protocol(str(file)).title == "mine" and name_of(str(file)) == "mine"
    assert content_of(load_protocol(str(file)))["parts"]["all"]["average"] is False
