"""Words on the command line become the product of their values, each run under a name of its own."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.files import ConfigError
from configs.overrides import split_values
from launch.sweep.axes import read_axes
from launch.sweep.expansion import MOST, expand


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0", ["0"]),
        ("0,1", ["0", "1"]),
        ("[0,1]", ["[0,1]"]),
        ("[0],[0,1]", ["[0]", "[0,1]"]),
        ("{a: 1, b: [2,3]},null", ["{a: 1, b: [2,3]}", "null"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ('["a]",b]', ['["a]",b]']),
        ("${px:2},${px:4}", ["${px:2}", "${px:4}"]),
        ("x-{0..3}.tar,y-{a,b}.tar", ["x-{0..3}.tar", "y-{a,b}.tar"]),
        ("don't,do", ["don't", "do"]),
        ("", [""]),
        (",", ["", ""]),
    ],
)
def test_only_a_bare_comma_separates(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize("text", ["[0,1", "{a", "'a,b", "[0}"])
def test_what_does_not_close_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="close"):
        split_values(text)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["eps=2,4"], ["eps=2", "eps=4"]),
        (["eps=2,4", "seed=0"], ["eps=2", "eps=4"]),
        (["objective.name=fare,tecoa"], ["objective=fare", "objective=tecoa"]),
        (["attack.steps=5,10", "lr=1e-4,1e-5"][:1], ["steps=5", "steps=10"]),
        (
            ["attack.steps=5,10", "defense.steps=1,2"],
            [f"attack.steps={a},defense.steps={d}" for a in (5, 10) for d in (1, 2)],
        ),
        (["model.checkpoint=a/x.pt,b/x.pt"], ["checkpoint=a_x", "checkpoint=b_x"]),
        (["model.checkpoint=a/x.pt,a_x"], ["checkpoint=a_x-1", "checkpoint=a_x-2"]),
        (["x=-1,1"], ["x=-1", "x=1"]),
    ],
)
def test_a_name_says_what_was_swept(words: list[str], names: list[str]) -> None:
    assert [point.name for point in expand(read_axes(words, "finetune"))] == names


def test_the_words_of_a_run_are_the_recipes_own_keys() -> None:
    last = expand(read_axes(["eps=2,4", "objective.name=fare,tecoa", "steps=7"], "finetune"))[-1]
    assert last.words == ("threat.eps=4", "objective.name=tecoa", "optimizer.max_steps=7")
    assert last.settings == {"eps": "4", "objective": "tecoa"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["eps=2,"], "empty value"),
        (["seed=0,0"], "value twice: 0"),
        (["seed=0", "seed=1,2"], "seed told twice"),
        (["eps=2,4", "threat.eps=0.1"], "eps and threat.eps are the same key"),
        (["seed"], "no key=value"),
        (["=1,2"], "no key=value"),
        (["--quick=1,2"], "no key=value"),
        (["seed=0"], "nothing is swept"),
        ([], "nothing is swept"),
        ([f"seed={','.join(map(str, range(MOST + 1)))}"], "1,001 runs"),
    ],
)
def test_what_cannot_be_swept_costs_a_line(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        expand(read_axes(words, "finetune"))


def test_all_faults_of_the_words_are_told_together() -> None:
    with pytest.raises(ConfigError) as told:
        read_axes(["eps=2,", "seed=0,0", "x", "lr=1,2"], "finetune")
    assert len(str(told.value).splitlines()) == 3


_KEYS = st.lists(
    st.sampled_from(["eps", "seed", "a.b", "b", "a.b.name", "a.name", "b.name", "c.a.b", "steps", "attack.steps"]),
    min_size=1,
    max_size=4,
    unique=True,
)
_VALUES = st.lists(
    st.sampled_from(["1", "2", "[1,2]", "a/b", "a-b", "a_b", "a_b-1", "x" * 90, "é", "'a,b'", "-1"]), max_size=3
)


@settings(max_examples=60)
@given(_KEYS.flatmap(lambda keys: st.tuples(st.just(keys), st.lists(_VALUES, min_size=len(keys), max_size=len(keys)))))
def test_runs_are_the_product_and_no_two_names_are_alike(drawn: tuple[list[str], list[list[str]]]) -> None:
    keys, values = drawn
    table = {k: list(dict.fromkeys(["1", "2"] if k == "eps" else ["7", *v])) for k, v in zip(keys, values, strict=True)}
    axes = read_axes([f"{key}={','.join(found)}" for key, found in table.items()], "finetune")
    if all(len(found) == 1 for found in table.values()):
        return
    points = expand(axes)
    expected = set(itertools.product(*(axis.values for axis in axes)))
    assert {tuple(word.partition("=")[2] for word in point.words) for point in points} == expected
    assert len({point.name for point in points}) == len(points) == len(expected)
    for point in points:
        assert re.fullmatch(r"[\w.+=,-]+", point.name) and len(point.name.encode()) <= 200
