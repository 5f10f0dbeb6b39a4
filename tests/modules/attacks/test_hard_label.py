from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.attacks.apgd import APGD
from modules.attacks.base import Search
from modules.attacks.hard_label import RayS
from modules.perturb import Threat
from modules.perturb.losses import margin
from tests.modules.attacks.linear import Linear

MODEL, TWO = Linear(3), Linear(2)
IMAGES, LABELS, NEAREST = MODEL.x, MODEL.y, MODEL.nearest("linf")


def classes_only(x: Tensor) -> Tensor:
    """The label and nothing else; its gradient is zero everywhere."""
    return F.one_hot(MODEL(x).argmax(dim=1), MODEL.classes).to(x.dtype) + 0 * x.flatten(1).sum(dim=1, keepdim=True)


def nearest_found(model: Linear, queries: int) -> Tensor:
    """[B] how far away the search for ever nearer points ends."""
    attack = RayS(Threat("linf", 0.02), queries=queries)  # a ball that is out of reach, so that it never stops
    x_adv = attack._perturb(lambda x: margin(model(x), model.y), model.x, "start")
    assert model.fooled(x_adv).all()
    return Threat("linf", 1.0).distance(model.x, x_adv)


def test_on_a_linear_model_it_reaches_the_nearest_boundary() -> None:
    found, nearest = nearest_found(TWO, 400), TWO.nearest("linf")
    assert (found >= 0.999 * nearest).all()
    assert (found <= 1.03 * nearest).all()


def test_it_succeeds_just_beyond_the_boundary_and_never_before() -> None:
    nearest = TWO.nearest("linf")
    beyond, before = 1.05 * float(nearest.max()), 0.99 * float(nearest.min())
    assert TWO.fooled(RayS(Threat("linf", beyond), queries=400)(TWO, TWO.x, TWO.y)).all()
    assert not TWO.fooled(RayS(Threat("linf", before), queries=400)(TWO, TWO.x, TWO.y)).any()


def test_with_several_classes_it_comes_near_the_nearest_one() -> None:
    assert (nearest_found(MODEL, 600) <= 1.5 * NEAREST).all()


def test_it_succeeds_where_there_is_no_gradient_at_all() -> None:
    ball = Threat("linf", 2 * float(NEAREST.max()))
    assert MODEL.fooled(RayS(ball, queries=600)(classes_only, IMAGES, LABELS)).all()
    blind = APGD(ball, steps=2)(classes_only, IMAGES, LABELS)
    assert not MODEL.fooled(blind).all()  # the same ball, followed by gradient


def test_logits_of_another_scale_change_nothing() -> None:
    def walk(scale: float) -> Tensor:
        points: list[Tensor] = []

        def logits(x: Tensor) -> Tensor:
            points.append(x)
            return scale * MODEL(x) ** 3  # odd, so the order of the logits stays

        RayS(Threat("linf", 0.03), queries=60)(logits, IMAGES, LABELS)
        return torch.stack(points)

    assert torch.equal(walk(1.0)[:-1], walk(1e3)[:-1])  # the last is what is handed back


def test_it_asks_no_more_often_than_it_was_told() -> None:
    calls = 0

    def counting(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return MODEL(x)

    RayS(Threat("linf", 1e-4), queries=37)(counting, IMAGES, LABELS)
    assert calls == 1 + 37 + 1  # the images themselves, the search, the point that is handed back


def test_an_image_stops_at_the_first_point_inside_the_ball() -> None:
    ball = Threat("linf", 1.5 * float(NEAREST.max()))
    search = Search(classes_only, IMAGES, LABELS, ball)
    x_adv = RayS(ball, queries=800).on(search)
    alone = [RayS(ball, queries=800)(classes_only, IMAGES[i : i + 1], LABELS[i : i + 1]) for i in range(len(IMAGES))]
    assert torch.equal(x_adv, torch.cat(alone))


def test_more_queries_never_end_farther_away() -> None:
    radii = torch.stack([nearest_found(MODEL, queries) for queries in (60, 120, 300)])
    assert (radii.diff(dim=0) <= 1e-6).all()
    assert (radii[-1] >= 0.999 * NEAREST).all()


def test_under_l2_and_l1_the_ball_is_kept() -> None:
    for ball in (Threat("l2", 0.8), Threat("l1", 5.0)):
        x_adv = RayS(ball, queries=300)(TWO, TWO.x, TWO.y)
        assert ball.contains(TWO.x, x_adv).all()
        assert TWO.fooled(x_adv).any()


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="not 0"):
        RayS(Threat(), queries=0)
