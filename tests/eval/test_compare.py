from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.compare import compare

pairs = st.dictionaries(st.text(max_size=5), st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def images(*counted: tuple[int, bool, bool]) -> tuple[dict[str, bool], dict[str, bool]]:
    """So many images of each kind: right by the first, right by the second."""
    flags = [(a, b) for count, a, b in counted for _ in range(count)]
    return {f"{i}": a for i, (a, _) in enumerate(flags)}, {f"{i}": b for i, (_, b) in enumerate(flags)}


def test_a_comparison_by_hand() -> None:
    found = compare(*images((40, True, True), (20, True, False), (5, False, True), (35, False, False)))
    assert (found.n, found.first, found.second) == (100, 0.6, 0.45)
    assert (found.test.b, found.test.c) == (20, 5)
    assert found.test.p == pytest.approx(2 * sum(comb(25, k) for k in range(6)) / 2**25)
    assert found.difference.value == pytest.approx(0.15)
    half = 1.96 * ((0.25 - 0.15**2) / 100) ** 0.5  # normal interval of a mean of -1, 0 and 1
    assert found.difference[1:] == pytest.approx((0.15 - half, 0.15 + half), abs=0.015)


def test_images_are_paired_by_their_id_and_not_by_their_place() -> None:
    first, second = images((3, True, False), (2, False, True))
    backwards = dict(reversed(second.items()))
    assert compare(first, backwards) == compare(first, second)
    assert compare(first, backwards).test[:2] == (3, 2)


@given(pairs)
def test_swapping_the_two_mirrors_the_comparison(flags: dict[str, tuple[bool, bool]]) -> None:
    first, second = {k: a for k, (a, _) in flags.items()}, {k: b for k, (_, b) in flags.items()}
    there, back = compare(first, second), compare(second, first)
    value, low, high = back.difference
    assert there.difference == pytest.approx((-value, -high, -low))
    assert there.test == (back.test.c, back.test.b, back.test.p)
    assert there.difference.value == pytest.approx(there.first - there.second)


def test_a_clear_difference_is_told_in_plain_words() -> None:
    told = compare(*images((60, True, True), (30, True, False), (10, False, False))).sentence
    for part in ("the same 100 images", "90.0 %", "60.0 %", "+30.0 points", "p < 0.001", "the first is right more"):
        assert part in told, part
    assert "more than chance explains" in told


def test_chance_is_called_chance() -> None:
    told = compare(*images((60, True, True), (4, True, False), (6, False, True))).sentence
    assert "the second is right more often, chance explains it as well" in told and "p = 0.754" in told
    assert "equally often right" in compare(*images((3, True, True), (1, False, False))).sentence


def test_other_images_are_refused_with_their_number_and_an_example() -> None:
    with pytest.raises(
        ValueError, match=r"2 are only in the first, 1 only in the second \(e.g. 'b', only in the first"
    ):
        compare({"a": True, "b": True, "c": False}, {"a": True, "d": True})
    with pytest.raises(ValueError, match=r"0 are only in the first, 1 only in the second \(e.g. 'd', only in the sec"):
        compare({"a": True}, {"a": True, "d": True})


def test_agreement_on_every_image_leaves_room_for_a_difference() -> None:
    found = compare(*images((18, True, True), (2, False, False)))
    assert found.difference == pytest.approx((0, -0.161, 0.161), abs=1e-3)
    assert "+0.0 points (95 % interval -16.1 to +16.1)" in found.sentence


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        compare({}, {})
