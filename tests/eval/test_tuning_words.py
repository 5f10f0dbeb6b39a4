"""The verdict's words against outcomes made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from eval.card import Doubt
from eval.compare import compare
from eval.tuning_record import Rung, Tried, Verdict
from eval.tuning_words import verdict, verdict_of
from tests.eval.test_tuning_choice import score


def flags(both: int, first: int, second: int, neither: int) -> tuple[dict[str, bool], dict[str, bool]]:
    """Two classifiers: images that both, only one, or none got right."""
    pairs = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    return {str(i): a for i, (a, _) in enumerate(pairs)}, {str(i): b for i, (_, b) in enumerate(pairs)}


def said(counts: tuple[int, int, int, int], **changes: Any) -> Verdict:
    winner = Tried("steps=3", {"steps": 3}, changes.pop("tuned", score(0.9, 0.5)), 2.0)
    others = [Tried(str(i), {"steps": i}, score(0.9, 0.0), 2.0) for i in range(changes.pop("count", 36) - 1)]
    bare = changes.pop("bare_tuned", score(0.9, 0.4))
    sieve = Rung("sieve", ["apgd"], bare, changes.pop("sieve", [winner, *others]))
    rungs = [sieve, Rung("final", ["apgd"], bare, [winner])]
    known = {"judged": score(0.9, 0.5), "bare": score(0.9, 0.4), "max_clean_drop": 0.05, **changes}
    return verdict(compare(*flags(*counts)), rungs, **known)


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        ((50, 20, 2, 28), "beats"),
        ((50, 2, 20, 28), "is worse"),
        ((50, 5, 5, 40), "does not beat"),
        ((50, 8, 3, 39), "does not beat"),
        ((90, 4, 0, 6), "does not beat"),  # four images more, and none fewer, are what chance explains
        ((0, 0, 0, 100), "does not beat"),
    ],
)
def test_a_claim_needs_the_interval_and_the_exact_test(counts: tuple[int, int, int, int], kind: str) -> None:
    assert verdict_of(compare(*flags(*counts))) == said(counts).kind == kind


def test_what_beats_says_by_how_much_and_how_sure() -> None:
    first = said((50, 20, 2, 28)).sentences[0]
    assert first.startswith(
        "The best of 36 settings, steps=3, beats the undefended encoder by 18.0 points (95 % interval"
    )
    assert "p < 0.001" in first and "70.0 % and 52.0 % of 100 images" in first


def test_what_does_not_beat_is_called_chance_and_never_a_gain() -> None:
    text = " ".join(said((50, 8, 3, 39)).sentences)
    assert "does not beat the undefended encoder: +5.0 points" in text and "what chance explains" in text
    assert "beats" not in text.replace("does not beat", "")


def test_the_lead_where_it_was_chosen_stands_beside_the_one_where_it_is_judged() -> None:
    text = said((50, 8, 3, 39)).sentences[1]
    assert "+10.0 points (50.0 % against 40.0 %)" in text and "a best of 36 looks better there than it is" in text
    assert "looks better" not in said((50, 8, 3, 39), count=1).sentences[1]


def test_a_defeat_on_the_tuning_images_is_said() -> None:
    text = " ".join(said((50, 2, 3, 45), tuned=score(0.9, 0.4)).sentences)
    assert "Already on the tuning images no setting of the last rung beat the undefended encoder" in text


def test_where_nothing_is_left_there_was_nothing_to_choose_by() -> None:
    text = " ".join(said((0, 0, 0, 50), tuned=score(0.9, 0.0), bare_tuned=score(0.9, 0.0)).sentences)
    assert "nothing was left of any setting" in text and "smaller threat.eps" in text


def test_a_red_doubt_takes_the_claim_back() -> None:
    doubt = Doubt("masked", "red", "The gradients are masked.")
    found = said((50, 20, 2, 28), doubts=[doubt])
    assert found.kind == "not believable"
    assert "no robustness: The gradients are masked." in " ".join(found.sentences)
    assert said((50, 20, 2, 28), doubts=[Doubt("few", "amber", "Few.")]).kind == "beats"


def test_clean_accuracy_is_told_and_its_loss_named() -> None:
    assert "90.0 % are right behind it and 90.0 % without it" in " ".join(said((50, 5, 5, 40)).sentences)
    lost = " ".join(said((50, 5, 5, 40), judged=score(0.8, 0.5)).sentences)
    assert "more than the 5 points that it might lose" in lost
    none = " ".join(said((50, 5, 5, 40), tuned=score(0.5, 0.5)).sentences)
    assert "No setting kept its clean accuracy within 5 points" in none


def test_the_mean_draw_of_a_random_defence_is_told() -> None:
    assert "in one draw, on average, 60.0 % are" in " ".join(
        said((50, 5, 5, 40), judged=score(0.9, 0.5, 0.6, 0.6)).sentences
    )


def test_what_transferred_attacks_would_have_chosen_is_told_where_it_is_worse() -> None:
    own = Tried("steps=3", {"steps": 3}, score(0.9, 0.5, 0.5), 2.0)
    masked = Tried("steps=9", {"steps": 9}, score(0.9, 0.1, 0.7), 2.0)
    mute = Tried("steps=99", {"steps": 99}, score(0.1, 0.1, 0.9), 2.0)  # too dull to be chosen by anyone
    text = " ".join(said((50, 5, 5, 40), sieve=[own, masked, mute]).sentences)
    assert "By transferred attacks alone steps=9 would have been chosen" in text
    assert "looks like 70.0 % there (sieve: 40.0 % without a defence) and keeps 10.0 %" in text
    assert "transferred" not in " ".join(said((50, 5, 5, 40), sieve=[own, mute]).sentences)
