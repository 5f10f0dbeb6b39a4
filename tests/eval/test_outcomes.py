"""Outcomes survive their file, and a file that is not sound is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.files import ConfigError
from eval.outcomes import Cell, Outcomes, read_outcomes, write_outcomes

HEADER = {"config": "c0ffee", "weights": "decade"}
names = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), max_size=8)
radii = st.floats(0, 1)
cells = st.builds(Cell, names, names, names, radii)


@st.composite
def outcomes(draw: st.DrawFn, count: int | None = None) -> Outcomes:
    keys = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=6))
    flags = st.lists(st.booleans(), min_size=len(keys), max_size=len(keys))
    correct = draw(st.dictionaries(cells, flags, max_size=4))
    return Outcomes(keys, correct, {cell: draw(st.floats(0, 1e6)) for cell in correct})


@given(cells)
def test_a_cell_is_read_back_from_its_text(cell: Cell) -> None:
    assert Cell.parse(str(cell)) == cell


@given(outcomes())
def test_outcomes_are_read_back_from_their_file(tmp_path_factory: pytest.TempPathFactory, found: Outcomes) -> None:
    path = tmp_path_factory.getbasetemp() / "round" / "trip.json"
    write_outcomes(path, found, **HEADER)
    assert read_outcomes(path, **HEADER) == found


def some() -> Outcomes:
    hit, clean = Cell("a", "pgd", "bpda", 0.1), Cell("a")
    return Outcomes(["x", "y", "z"], {clean: [True, True, False], hit: [False, True, True]}, {clean: 1.0, hit: 2.0})


def test_batches_join_to_the_whole() -> None:
    both, part = some(), some()
    both.extend(part)
    assert both.keys == ["x", "y", "z"] * 2
    assert both.correct[Cell("a")] == [True, True, False] * 2
    assert both.seconds == {cell: 2 * seconds for cell, seconds in part.seconds.items()}
    assert part == some()
    empty = Outcomes()
    empty.extend(part)
    assert empty == part
    with pytest.raises(AssertionError, match="cells differ"):
        both.extend(Outcomes(["w"], {Cell("b"): [True]}, {Cell("b"): 0.0}))


def test_robust_is_right_on_the_clean_image_and_under_every_attack() -> None:
    hit = Cell("a", "pgd", "bpda", 0.1)
    assert some().robust([hit]) == [False, True, False]
    assert some().robust([Cell("a")]) == [True, True, False]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{",
        json.dumps({**HEADER, "keys": ["x"]}),
        json.dumps({**HEADER, "keys": ["x"], "cells": {"a|none|none": {"correct": "1", "seconds": 0}}}),
        json.dumps({**HEADER, "keys": ["x"], "cells": {"a|none|none|0": {"correct": "2", "seconds": 0}}}),
        json.dumps({**HEADER, "keys": ["x"], "cells": {"a|none|none|0": {"correct": "11", "seconds": 0}}}),
        json.dumps({**HEADER, "keys": ["x"], "cells": {"a|none|none|0": {"correct": "1", "seconds": "long"}}}),
        json.dumps({**HEADER, "keys": ["x"], "cells": {"a|none|none|0": "1"}}),
        json.dumps({"keys": [], "cells": {}}),
    ],
)
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"state\.json is damaged .*; delete it") as caught:
        read_outcomes(path, **HEADER)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is damaged"):
        read_outcomes(path, **HEADER)


@pytest.mark.parametrize("name", HEADER)
def test_outcomes_of_something_else_are_refused(name: str, tmp_path: Path) -> None:
    write_outcomes(tmp_path / "state.json", some(), **HEADER)
    with pytest.raises(ConfigError, match=f"belongs to another {name}"):
        read_outcomes(tmp_path / "state.json", **{**HEADER, name: "other"})
