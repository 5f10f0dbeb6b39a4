"""What a search knows beside its own looks: a judge, points from elsewhere, and what it has to avoid."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.attacks import APGD, PGD
from modules.attacks.base import Search
from modules.perturb import Threat
from modules.perturb.losses import margin
from tests.modules.toys import ConvEncoder, classifier, images

MODEL = classifier(ConvEncoder())
OTHER = classifier(ConvEncoder(seed=5))
X = images(12)
THREAT = Threat("linf", 0.02)
with torch.no_grad():
    Y = MODEL(X).argmax(dim=1)


def margins(model: object, x: Tensor) -> Tensor:
    with torch.no_grad():
        return margin(model(x), Y)  # pyright: ignore[reportCallIssue]


def cut(x: Tensor) -> Tensor:
    """The model, whose gradient nobody gets."""
    return MODEL(x.detach()) + 0 * x.sum()


def test_points_from_elsewhere_are_looked_at_first() -> None:
    known = APGD(THREAT, steps=10)(MODEL, X, Y)
    search = Search(cut, X, Y, THREAT, candidates=[known])
    found = APGD(THREAT, steps=3).on(search)
    assert (margins(MODEL, found) >= margins(MODEL, known) - 1e-6).all()
    assert (margins(MODEL, known) > margins(MODEL, APGD(THREAT, steps=3)(cut, X, Y)) + 0.1).any()


def test_an_attack_goes_on_from_the_worst_point_known() -> None:
    transferred = APGD(THREAT, steps=10)(OTHER, X, Y)
    search = Search(MODEL, X, Y, THREAT, candidates=[transferred])
    found = APGD(THREAT, steps=4).on(search)
    alone = APGD(THREAT, steps=4)(MODEL, X, Y)
    assert margins(MODEL, found).sum() > margins(MODEL, alone).sum()
    assert THREAT.contains(X, found).all()


def test_points_outside_the_ball_are_no_candidates() -> None:
    search = Search(MODEL, X, Y, THREAT, candidates=[torch.rand_like(X)])
    search.begin()
    assert torch.equal(search.worst, X)


def test_the_judge_decides_which_point_is_worst() -> None:
    """Following another model, the point that is kept is the one that hurts this one most."""
    search = Search(OTHER, X, Y, THREAT, judge=MODEL, judge_every=1)
    kept = PGD(THREAT, steps=6, step_size=0.005, loss="margin").on(search)
    torch.testing.assert_close(search.margin, margins(MODEL, kept), rtol=0, atol=1e-5)
    followed = PGD(THREAT, steps=6, step_size=0.005, loss="margin")(OTHER, X, Y)
    assert (margins(MODEL, kept) >= margins(MODEL, followed) - 1e-5).all()
    assert (margins(MODEL, kept) > margins(MODEL, followed) + 1e-3).any()


def test_a_judge_is_asked_about_every_fifth_point_and_the_last() -> None:
    asked = []

    def judge(x: Tensor) -> Tensor:
        asked.append(len(x))
        return MODEL(x)

    PGD(THREAT, steps=9, step_size=0.005, keep="last").on(Search(OTHER, X, Y, THREAT, judge=judge))
    assert len(asked) == 1 + 2 + 1  # the images, points 5 and 10 of 10 and the last again


def test_several_looks_are_averaged() -> None:
    search = Search([MODEL, OTHER], X, Y, THREAT)
    by_hand = (margin(MODEL(X), Y) + margin(OTHER(X), Y)) / 2
    torch.testing.assert_close(search(X), by_hand)


def test_a_penalty_is_taken_off_and_keeps_the_attack_away() -> None:
    def bright(x: Tensor) -> Tensor:
        return 1000 * (x.flatten(1).mean(dim=1) - X.flatten(1).mean(dim=1)).clamp_min(0)

    free = APGD(THREAT, steps=20)(MODEL, X, Y)
    shy = APGD(THREAT, steps=20).perturb(Search(MODEL, X, Y, THREAT, penalty=bright), X)
    assert bright(free).max() > 1
    assert bright(shy).max() < 0.2


def brightness(x: torch.Tensor) -> torch.Tensor:
    """A gate that opens on images darker than the mean image."""
    return 20 * (0.5 - x.flatten(1).mean(dim=1))


def test_only_points_that_are_answered_count_as_found() -> None:
    search = Search(MODEL, X, Y, THREAT, refused=brightness)
    found = PGD(THREAT, steps=15, step_size=0.004, loss="margin").on(search)
    expected = torch.minimum(margins(MODEL, found), -brightness(found))
    torch.testing.assert_close(search.margin, expected, rtol=0, atol=1e-5)
    free = PGD(THREAT, steps=15, step_size=0.004, loss="margin")(MODEL, X, Y)
    assert ((margins(MODEL, free) > 0) & (brightness(free) > 0)).any()  # else the refusal says nothing
    assert (search.margin >= torch.minimum(margins(MODEL, free), -brightness(free)) - 1e-5).all()


def test_a_refused_image_is_not_left_out_as_fallen() -> None:
    search = Search(MODEL, X, Y, THREAT, compact=True, refused=lambda x: torch.ones(len(x)), candidates=[1 - X])
    PGD(THREAT, steps=15, step_size=0.004, loss="margin").on(search)
    search.aim(margin, (Y,))
    assert (search.margin <= 0).all() and len(search.index) == len(X)
