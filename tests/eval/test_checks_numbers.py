"""Doubts from outcomes alone: made-up tables, each with one fault, and the thresholds from both sides."""

from __future__ import annotations

import pytest

from eval.card import Doubt
from eval.checks import number_doubts
from eval.outcomes import Cell, Outcomes
from eval.rows import Rows, Subject

EPS, N = 4 / 255, 200


def rows(**changes: object) -> Rows:
    said = {"norm": "linf", "eps": EPS, "seed": 0, "config": "", **changes}
    return Rows(task="classification", dataset="made up", subject=Subject("CLIP"), **said)  # pyright: ignore


def flags(right: int, n: int = N, start: int = 0) -> list[bool]:
    """As many right as said, one after the other, from image ``start`` on."""
    return [start <= i < start + right for i in range(n)]


def table(clean: int = 180, *, n: int = N, bare: int | None = None, **views: int | list[list[bool]]) -> Outcomes:
    """Outcomes of a defence ``tried``; for each view how many images it leaves, or all draws of it."""
    draws = max((len(value) for value in views.values() if isinstance(value, list)), default=1)
    outcomes = Outcomes(keys=[str(i) for i in range(n)], draws={Cell("tried"): [flags(clean, n)] * draws})
    for view, value in views.items():
        outcomes.draws[Cell("tried", "apgd", view, EPS)] = (
            value if isinstance(value, list) else [flags(value, n)] * draws
        )
    if bare is not None:
        outcomes.draws[Cell("none")] = [flags(bare, n)]
    return outcomes


def said(outcomes: Outcomes, writer: Rows | None = None) -> list[tuple[str, str]]:
    return [(d.name, d.severity) for d in doubts(outcomes, writer)]


def doubts(outcomes: Outcomes, writer: Rows | None = None) -> list[Doubt]:
    return number_doubts(outcomes, writer or rows(), "tried")


def test_an_honest_table_raises_no_doubt() -> None:
    assert said(table(bare=190, transfer=150, adaptive=100, bpda=120, query=110)) == []
    assert said(table(adaptive=180, query=180)) == []  # nothing falls: an easy set may be like that
    assert said(table(adaptive=0, query=0)) == []


def test_a_table_without_attacks_says_nothing() -> None:
    assert said(table()) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [(100, []), (99, [("query_wins", "amber")]), (98, [("query_wins", "red")]), (20, [("query_wins", "red")])],
)
def test_images_that_only_questions_fell_are_counted(query: int, expected: list[tuple[str, str]]) -> None:
    assert said(table(adaptive=100, query=query)) == expected


def test_one_image_of_a_thousand_is_within_the_threshold() -> None:
    assert said(table(500, n=1000, adaptive=400, query=399)) == []


def test_other_images_count_as_well_as_fewer() -> None:
    """The query view leaves more images than the adaptive one, but others."""
    assert said(table(adaptive=[flags(100)], query=[flags(150, start=30)])) == [("query_wins", "red")]


def test_cumulative_rows_of_questions_are_not_counted_twice() -> None:
    """Under ``cascade`` the query row holds what all views left: here nothing more fell."""
    assert said(table(transfer=120, adaptive=100, bpda=98, query=98), rows(cascade=True)) == []
    assert said(table(transfer=120, adaptive=100, bpda=98, query=80), rows(cascade=True)) == [("query_wins", "red")]


def test_a_random_defence_has_some_luck() -> None:
    draws = [flags(100), flags(102)]
    lucky = [flags(98), flags(100)]
    assert said(table(adaptive=draws, eot=draws, query=lucky)) == [("query_wins", "amber")]
    worse = [flags(90), flags(92)]
    assert said(table(adaptive=draws, eot=draws, query=worse)) == [("query_wins", "red")]


@pytest.mark.parametrize("view", ["transfer", "bpda"])
@pytest.mark.parametrize(
    ("left", "expected"), [(97, None), (94, "amber"), (85, "amber"), (79, "red"), (0, "red"), (150, None)]
)
def test_blunt_views_that_win_are_doubted_by_their_lead(view: str, left: int, expected: str | None) -> None:
    query = min(left, 100)
    found = said(table(**{view: left}, adaptive=100, query=query))
    assert found == ([(f"{view}_wins", expected)] if expected else [])


def test_all_own_views_together_are_compared_with_the_blunt_ones() -> None:
    assert said(table(adaptive=150, smooth=50, bpda=50, transfer=60, query=50)) == []


def test_a_lead_that_chance_explains_is_none() -> None:
    """Transfer fells 30 images that adaptive leaves, adaptive 22 that transfer leaves: 4 points, p = 0.33."""
    own, blunt = flags(130), flags(122, start=30)
    assert said(table(adaptive=[own], transfer=[blunt], query=[flags(100, start=30)])) == []


def test_attacked_images_that_are_easier_than_clean_ones_are_impossible() -> None:
    assert said(table(clean=100, adaptive=103, query=100)) == []
    assert said(table(clean=100, adaptive=110, query=100)) == [("above_clean", "red")]


def test_more_robust_than_the_bare_encoder_is_right_is_impossible() -> None:
    assert said(table(bare=152, adaptive=155, query=155)) == []
    assert said(table(bare=100, adaptive=155, query=155)) == [("above_undefended", "red")]


def test_what_is_missing_is_said() -> None:
    assert said(table(transfer=100, query=100)) == [("no_adaptive", "red")]
    assert said(table(bpda=100, query=100)) == [("no_adaptive", "red")]
    assert said(table(adaptive=100)) == [("no_query", "amber")]
    assert said(table(eot=100, query=100)) == [("one_draw", "amber")]
    assert said(table(50, n=99, adaptive=20, query=20)) == [("few_images", "amber")]
    assert said(table(50, n=100, adaptive=20, query=20)) == []


def test_an_artefact_is_red_whatever_its_numbers() -> None:
    outcomes = table(adaptive=0, query=0)
    (doubt,) = doubts(outcomes, rows(artefacts={"tried": "tte-legacy"}))
    assert (doubt.name, doubt.severity) == ("artefact", "red") and "'tte-legacy'" in doubt.text
    assert said(outcomes, rows(artefacts={"another": "tte-legacy"})) == []
    assert said(table(), rows(artefacts={"tried": "tte-legacy"})) == [("artefact", "red")]


def test_radii_of_a_curve_are_not_the_worst_case() -> None:
    outcomes = table(adaptive=100, query=100)
    outcomes.draws[Cell("tried", "apgd", "transfer", 8 / 255)] = [flags(0)]
    assert said(outcomes) == []


def test_the_numbers_stand_in_the_text() -> None:
    (doubt,) = doubts(table(adaptive=100, query=80))
    assert "fell 20 images (10 %)" in doubt.text and "of 100" in doubt.text


@pytest.mark.parametrize(
    ("clean", "classes", "expected"),
    [
        (20, 10, [("at_chance", "red")]),
        (0, 10, [("at_chance", "red")]),
        (21, 10, []),
        (100, 2, [("at_chance", "red")]),
        (101, 2, []),
        (0, 0, []),  # nobody said how many there are
    ],
)
def test_a_clean_accuracy_that_guessing_reaches_is_no_accuracy(
    clean: int, classes: int, expected: list[tuple[str, str]]
) -> None:
    assert said(table(clean), rows(classes=classes)) == expected
    if clean:
        assert said(table(clean, adaptive=0, query=0), rows(classes=classes)) == expected


def test_chance_is_told_of_the_judged_defense_alone_and_in_the_mean_over_draws() -> None:
    weak = table(180, bare=10, adaptive=10, query=10)
    assert ("at_chance", "red") not in said(weak, rows(classes=10))
    noisy = Outcomes(keys=[str(i) for i in range(N)], draws={Cell("tried"): [flags(10), flags(40)]})
    assert said(noisy, rows(classes=10)) == []
    assert said(noisy, rows(classes=8)) == [("at_chance", "red")]


@pytest.mark.parametrize(
    ("noise", "expected"),
    [(100, []), (99, [("noise_wins", "amber")]), (97, [("noise_wins", "red")])],
)
def test_images_that_only_noise_fells_are_counted(noise: int, expected: list[tuple[str, str]]) -> None:
    assert said(table(adaptive=100, query=min(noise, 100), control=noise)) == [
        *expected,
        *([("query_wins", severity) for _, severity in expected][:1] if noise < 100 else []),
    ]
    assert said(table(adaptive=100, query=90 + 10, control=150)) == []
