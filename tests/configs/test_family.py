"""What a class takes by keyword is what a recipe may say."""

from __future__ import annotations

from typing import Literal

import pytest

from configs.family import Family, leaves, nested
from configs.files import ConfigError


class Cake:
    def __init__(
        self, oven: str, guest: str, /, *, eggs: int, size: float = 1.5, kind: Literal["round", "flat"] = "round"
    ) -> None:
        if eggs < 0:
            raise ValueError("eggs cannot be negative")
        self.given = (oven, guest, eggs, size, kind)


class Tea:
    def __init__(self, guest: str, /, *, sugar: bool = False) -> None:
        self.given = (guest, sugar)


FOOD: Family[object] = Family("dish", {"cake": Cake, "tea": Tea})


def test_each_class_is_handed_what_its_positional_parameters_name() -> None:
    cake = FOOD.build({"name": "cake", "eggs": 2}, oven="hot", guest="Ann")
    tea = FOOD.build({"name": "tea", "sugar": True}, oven="hot", guest="Ann")
    assert isinstance(cake, Cake) and cake.given == ("hot", "Ann", 2, 1.5, "round")
    assert isinstance(tea, Tea) and tea.given == ("Ann", True)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"name": "caek"}, ["unknown dish 'caek'; choose one of: cake, tea"]),
        ({}, ["unknown dish None; choose one of: cake, tea"]),
        ({"name": "cake", "eggs": 1, "siez": 2}, ["Did you mean: 'size'?"]),
        ({"name": "cake", "eggs": "many"}, ["'many' of type 'str' could not be converted to Integer"]),
        ({"name": "cake", "eggs": 1, "kind": "square"}, ["square"]),
        ({"name": "cake"}, ["eggs is missing"]),
        ({"name": "cake", "eggs": "many", "size": "big", "salt": 1}, ["'many'", "'big'", "'salt'"]),
    ],
)
def test_every_fault_of_a_component_is_told(node: dict[str, object], told: list[str]) -> None:
    faults = FOOD.faults(node)
    assert len(faults) == len(told)
    for fault, part in zip(faults, told, strict=True):
        assert part in fault and "\n" not in fault
    with pytest.raises(ConfigError):
        FOOD.build(node, oven="hot", guest="Ann")


def test_what_the_program_cannot_hand_in_is_named() -> None:
    with pytest.raises(ConfigError, match="dish 'cake' needs oven and guest, which is not given"):
        FOOD.build({"name": "cake", "eggs": 1})


def test_values_that_contradict_are_told_with_the_components_name() -> None:
    with pytest.raises(ConfigError, match="dish 'cake': eggs cannot be negative"):
        FOOD.build({"name": "cake", "eggs": -1}, oven="hot", guest="Ann")


def test_leaves_and_nested_are_each_others_inverse() -> None:
    tree = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}}
    found = leaves(tree)
    assert found == [(("a", "b"), 1), (("a", "c", "d"), [1, 2]), (("e",), {})]
    assert nested(("a", "c", "d"), 5) == {"a": {"c": {"d": 5}}}
