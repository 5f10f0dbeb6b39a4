from __future__ import annotations

import json

import pytest

from eval.measures import mean_of, measured_rows
from eval.metrics import wilson
from eval.outcomes import Cell, Outcomes
from eval.rows import Rows, Subject

CLEAN, ADAPTIVE, BPDA = Cell("none"), Cell("none", "apgd", "adaptive", 0.1), Cell("none", "apgd", "bpda", 0.1)
ROWS = Rows("retrieval", "digits", Subject("CLIP"), "linf", 0.1, 0, "c")


def outcomes(keys: list[str], numbers: dict[Cell, list[float | None]]) -> Outcomes:
    flags = {cell: [[True] * len(keys)] for cell in numbers}
    measures = {cell: {"precision": list(values)} for cell, values in numbers.items()}
    return Outcomes(keys, flags, dict.fromkeys(numbers, 0.0), measures=measures)


FOUND = outcomes(["a", "b", "c"], {CLEAN: [1.0, 0.5, None], ADAPTIVE: [0.5, 0.2, None], BPDA: [0.1, 0.4, None]})


def test_rows_are_means_and_the_worst_is_every_images_least() -> None:
    found = {(row.attack, row.view): row for row in measured_rows(ROWS, FOUND)}
    assert found["none", "none"].value == 0.75 and found["none", "none"].n == 2
    assert found["apgd", "bpda"].value == 0.25
    assert found["worst", "worst"].value == pytest.approx((0.1 + 0.2) / 2)
    assert all(row.low <= row.value <= row.high for row in found.values())


def test_a_share_has_the_interval_of_a_share() -> None:
    assert mean_of([1.0, 0.0, 1.0, 1.0])[1:] == wilson(3, 4)
    assert mean_of([0.5])[1:] == (0.0, 1.0) and mean_of([])[1:] == (0.0, 1.0)
    low, high = mean_of([0.2, 0.4, 0.6, 0.8] * 25)[1:]
    assert 0.4 < low < 0.5 < high < 0.6


def test_measures_survive_writing_joining_and_choosing() -> None:
    restored = Outcomes.from_json(FOUND.to_json())
    assert restored.measures == FOUND.measures
    restored.extend(outcomes(["d"], {CLEAN: [0.25], ADAPTIVE: [0.0], BPDA: [0.0]}))
    assert restored.measures[CLEAN]["precision"] == [1.0, 0.5, None, 0.25]
    assert restored.select([3, 0]).measures[CLEAN]["precision"] == [0.25, 1.0]
    restored.keep([CLEAN])
    assert list(restored.measures) == [CLEAN]


def test_numbers_and_keys_that_differ_in_number_are_refused() -> None:
    content = json.loads(json.dumps(FOUND.to_json()))
    content["cells"][str(CLEAN)]["measures"]["precision"].pop()
    with pytest.raises(ValueError, match="differ in number"):
        Outcomes.from_json(content)
