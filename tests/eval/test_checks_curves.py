"""Doubts from curves and brackets, each threshold from both sides."""

from __future__ import annotations

import pytest

from eval.card import Bracket, Curve, Over, Share
from eval.checks.curves import bracket_doubts, curve_doubts
from eval.metrics import wilson

N = 200


def share(value: float) -> Share:
    return Share(value, *wilson(value * N, N), N)


def said(over: Over, points: dict[float, float], whole: bool = False) -> list[tuple[str, str]]:
    curve = Curve(over, "apgd", "adaptive", [(x, share(value)) for x, value in points.items()], whole)
    return [(doubt.name, doubt.severity) for doubt in curve_doubts([curve], [])]


def radii(*values: float) -> dict[float, float]:
    return {eps / 255: value for eps, value in zip((0, 2, 4, 8, 127.5), values, strict=False)}


def test_honest_curves_raise_no_doubt() -> None:
    assert said("eps", radii(0.9, 0.7, 0.4, 0.1, 0.0)) == []
    assert said("eps", radii(0.9, 0.9, 0.9)) == []
    assert said("steps", {1: 0.6, 10: 0.42, 100: 0.40, 1000: 0.395}) == []
    assert said("restarts", {1: 0.5, 5: 0.49}) == []
    assert said("draws", {1: 0.5, 5: 0.51, 20: 0.5}) == []
    assert said("steps", {}) == said("eps", {}) == said("draws", {4: 0.5}) == []


@pytest.mark.parametrize(
    ("over", "severity"), [("eps", "red"), ("steps", "amber"), ("restarts", "amber"), ("draws", "amber")]
)
def test_strength_that_helps_the_defence_is_doubted_beyond_the_intervals(over: Over, severity: str) -> None:
    assert said(over, {1 / 255: 0.3, 2 / 255: 0.3, 4 / 255: 0.5}) == [("not_monotone", severity)]
    assert said(over, {1 / 255: 0.3, 2 / 255: 0.29, 4 / 255: 0.35}) == []


def test_a_rise_over_several_points_is_a_rise() -> None:
    assert said("eps", radii(0.3, 0.37, 0.44, 0.51)) == [("not_monotone", "red")]


@pytest.mark.parametrize(("left", "whole", "found"), [(0.03, True, 0), (0.2, True, 1), (0.2, False, 0), (0.0, True, 0)])
def test_a_ball_that_holds_images_of_other_classes_leaves_nothing(left: float, whole: bool, found: int) -> None:
    assert said("eps", radii(0.9, 0.8, 0.7, 0.6, left), whole) == [("never_falls", "red")] * found


def test_what_may_be_left_is_a_share_of_what_was_right() -> None:
    assert said("eps", radii(0.15, 0.15, 0.15, 0.15, 0.1), whole=True) == [("never_falls", "red")]


def test_a_ball_that_was_not_tried_is_not_doubted_but_listed_as_unchecked() -> None:
    assert said("eps", {0.0: 0.9, 32 / 255: 0.5}) == []
    assert said("steps", {1: 0.5, 100: 0.5}) == []
    ending = [
        Curve("eps", "apgd", "adaptive", [(0.0, share(0.9)), (0.5, share(0.0))], whole) for whole in (True, False)
    ]
    for curve, told in zip(ending, (0, 1), strict=True):
        unchecked: list[str] = []
        curve_doubts([curve], unchecked)
        assert len(unchecked) == told


@pytest.mark.parametrize(("last", "found"), [(0.40, 1), (0.44, 0), (0.45, 0)])
def test_a_curve_that_still_falls_has_not_converged(last: float, found: int) -> None:
    assert said("steps", {10: 0.6, 100: 0.45, 1000: last}) == [("not_converged", "amber")] * found


def test_one_step_must_not_win() -> None:
    assert said("steps", {1: 0.40, 10: 0.45, 100: 0.45}) == [("one_step_wins", "red")]
    assert said("steps", {1: 0.44, 10: 0.45, 100: 0.45}) == []
    assert said("steps", {5: 0.40, 10: 0.45, 100: 0.45}) == []
    assert said("restarts", {1: 0.40, 10: 0.45}) == []


@pytest.mark.parametrize(
    ("certified", "attacked", "found"), [(0.5, 0.49, 1), (0.5, 0.5, 0), (0.3, 0.5, 0), (1.0, 0.0, 1)]
)
def test_certificates_must_not_promise_what_attacks_have_broken(certified: float, attacked: float, found: int) -> None:
    doubts = bracket_doubts(Bracket(0.5, share(certified), share(attacked)))
    assert [(doubt.name, doubt.severity) for doubt in doubts] == [("certified_above_attacked", "red")] * found


def test_a_certificate_alone_is_not_doubted() -> None:
    assert bracket_doubts(None) == bracket_doubts(Bracket(0.5, share(1.0), None)) == []
