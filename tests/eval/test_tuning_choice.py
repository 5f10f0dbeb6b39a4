"""Who goes on: the worst case decides, clean accuracy is a condition, and ties have an order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eval.card import Share
from eval.tuning_choice import choose, keeps_clean
from eval.tuning_record import Score, Tried

N = 100


def score(clean: float, worst: float, transfer: float | None = None, mean_draw: float | None = None) -> Score:
    shares = [None if value is None else Share(value, 0.0, 1.0, N) for value in (clean, worst, transfer, mean_draw)]
    assert shares[0] and shares[1]
    return Score(shares[0], shares[1], shares[2], shares[3], met=2)


def tried(name: str, clean: float, worst: float, cost: float = 1.0) -> Tried:
    return Tried(name, {"name": name}, score(clean, worst), cost)


BARE = score(0.9, 0.2)


def test_the_highest_worst_case_goes_on_and_the_reason_of_the_others_is_told() -> None:
    found = choose(
        [tried("low", 0.9, 0.1), tried("high", 0.88, 0.4), tried("mute", 0.1, 0.9)], BARE, keep=1, max_clean_drop=0.05
    )
    assert [(one.name, one.fate) for one in found] == [
        ("high", "kept"),
        ("low", "worst case"),
        ("mute", "clean accuracy"),
    ]


def test_equals_are_told_apart_by_clean_accuracy_then_cost_then_order() -> None:
    found = choose(
        [tried("dear", 0.9, 0.4, 9), tried("dull", 0.86, 0.4), tried("first", 0.9, 0.4), tried("second", 0.9, 0.4)],
        BARE,
        keep=2,
        max_clean_drop=0.05,
    )
    assert [one.name for one in found] == ["first", "second", "dear", "dull"]
    assert [one.fate for one in found] == ["kept", "kept", "worst case", "worst case"]


def test_a_drop_of_exactly_the_allowed_size_is_allowed() -> None:
    assert keeps_clean(score(0.85, 0.0), BARE, 0.05)
    assert not keeps_clean(score(0.84, 0.0), BARE, 0.05)


def test_where_all_lose_too_much_the_one_that_loses_least_goes_on() -> None:
    found = choose([tried("a", 0.2, 0.2), tried("b", 0.5, 0.1)], BARE, keep=1, max_clean_drop=0.05)
    assert [(one.name, one.fate) for one in found] == [("b", "kept"), ("a", "clean accuracy")]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12),
    st.integers(1, 12),
    st.floats(0, 1),
)
def test_nobody_who_goes_on_is_worse_than_an_allowed_one_who_does_not(
    values: list[tuple[int, int]], keep: int, most: float
) -> None:
    settings = [tried(str(i), clean / 20, worst / 20) for i, (clean, worst) in enumerate(values)]
    found = choose(settings, BARE, keep=keep, max_clean_drop=most)
    assert sorted(one.name for one in found) == sorted(one.name for one in settings)
    allowed = [one for one in found if keeps_clean(one.score, BARE, most)]
    kept = [one for one in found if one.fate == "kept"]
    assert kept == found[: len(kept)] and len(kept) == min(keep, len(allowed) or len(found))
    if allowed:
        left = [one.score.worst.value for one in allowed if one.fate != "kept"]
        assert all(keeps_clean(one.score, BARE, most) for one in kept)
        assert not left or max(left) <= min(one.score.worst.value for one in kept)
