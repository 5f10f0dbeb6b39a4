"""Outcomes survive their file, and a file that is not sound is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.files import ConfigError
from eval.outcomes import Cell, Outcomes, read_outcomes, write_outcomes

HEADER = {"config": "c0ffee", "weights": "decade"}
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
radii = st.floats(0, 1)
cells = st.builds(Cell, names, names, names, radii)


@st.composite
def outcomes(draw: st.DrawFn, count: int | None = None) -> Outcomes:
    keys = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=6))
    flags = st.lists(st.booleans(), min_size=len(keys), max_size=len(keys))
    found = draw(st.dictionaries(cells, st.lists(flags, min_size=1, max_size=3), max_size=4))
    notes = {cell: draw(st.lists(st.text(max_size=5), max_size=2)) for cell in found}
    return Outcomes(keys, found, {cell: draw(st.floats(0, 1e6)) for cell in found}, notes)


@given(cells)
def test_a_cell_is_read_back_from_its_text(cell: Cell) -> None:
    assert Cell.parse(str(cell)) == cell


@given(outcomes())
def test_outcomes_are_read_back_from_their_file(tmp_path_factory: pytest.TempPathFactory, found: Outcomes) -> None:
    path = tmp_path_factory.getbasetemp() / "round" / "trip.json"
    write_outcomes(path, found, **HEADER)
    assert read_outcomes(path, **HEADER) == found


CLEAN, HIT = Cell("a"), Cell("a", "pgd", "bpda", 0.1)


def some() -> Outcomes:
    """Three images, scored on two draws."""
    return Outcomes(
        ["x", "y", "z"],
        {CLEAN: [[True, True, False], [True, True, True]], HIT: [[False, True, True], [True, True, True]]},
        {CLEAN: 1.0, HIT: 2.0},
        {CLEAN: [], HIT: ["few classes"]},
    )


def test_batches_join_to_the_whole() -> None:
    both, part = some(), some()
    both.extend(part)
    assert both.keys == ["x", "y", "z"] * 2
    assert both.draws[CLEAN] == [[True, True, False] * 2, [True] * 6]
    assert both.seconds == {cell: 2 * seconds for cell, seconds in part.seconds.items()}
    assert both.notes == part.notes  # said once
    assert part == some()
    empty = Outcomes()
    empty.extend(part)
    assert empty == part
    with pytest.raises(AssertionError, match="cells differ"):
        both.extend(Outcomes(["w"], {Cell("b"): [[True]]}, {Cell("b"): 0.0}))


def test_some_images_can_be_taken_out() -> None:
    found = some().select([2, 0])
    assert found.keys == ["z", "x"]
    assert found.draws[HIT] == [[True, False], [True, True]]
    assert some().select(range(3)) == some()


def test_robust_is_right_on_the_clean_image_and_under_every_attack_in_every_draw() -> None:
    assert some().correct[HIT] == [False, True, True]
    assert some().robust([HIT]) == [False, True, False]
    assert some().robust([CLEAN]) == [True, True, False]
    assert some().per_draw([HIT]) == [[False, True, False], [True, True, True]]


def test_a_flag_that_has_flipped_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_outcomes(path, some(), **HEADER)
    assert '"011"' in path.read_text()
    path.write_text(path.read_text().replace('"011"', '"111"'))
    with pytest.raises(ConfigError, match=r"state\.json is damaged \(its checksum does not fit\); delete it"):
        read_outcomes(path, **HEADER)


def sealed(**content: object) -> str:
    """A file whose checksum fits, whatever it holds."""
    payload = {**HEADER, **content}
    text = json.dumps(payload, sort_keys=True)
    return json.dumps({"digest": hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), **payload})


def cell(**value: object) -> dict[str, object]:
    return {str(Cell("a")): {"correct": ["1"], "seconds": 0, "notes": [], **value}}


def test_a_sealed_file_is_sound(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(sealed(keys=["x"], cells=cell()))
    assert read_outcomes(tmp_path / "state.json", **HEADER).draws == {Cell("a"): [[True]]}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{",
        json.dumps({**HEADER, "keys": ["x"], "cells": {}}),
        json.dumps({**HEADER, "keys": ["x"], "cells": {}, "digest": "0"}),
        sealed(keys=["x"]),
        sealed(keys=["x"], cells={"a|none|none": {"correct": ["1"], "seconds": 0, "notes": []}}),
        sealed(keys=["x"], cells=cell(correct=["2"])),
        sealed(keys=["x"], cells=cell(correct=["11"])),
        sealed(keys=["x"], cells=cell(correct=["1", "11"])),
        sealed(keys=["x"], cells=cell(seconds="long")),
        sealed(keys=["x"], cells={str(Cell("a")): "1"}),
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
