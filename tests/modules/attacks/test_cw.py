from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from modules.attacks.cw import CW
from modules.perturb import Threat
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Norm
from tests.modules.attacks.linear import Linear

NORMS: list[Norm] = ["linf", "l2"]


TWO, FOUR = Linear(2), Linear(4)


def loss_of(model: Linear) -> Loss:
    return lambda x: margin(model(x), model.y)


@pytest.mark.parametrize("norm", NORMS)
def test_on_a_linear_model_it_succeeds_just_beyond_the_boundary_and_never_before(norm: Norm) -> None:
    for image, distance in enumerate(TWO.nearest(norm).tolist()[:3]):
        x, y = TWO.x[image : image + 1], TWO.y[image : image + 1]
        beyond = CW(Threat(norm, 1.03 * distance), steps=100)(TWO, x, y)
        before = CW(Threat(norm, 0.99 * distance), steps=20)(TWO, x, y)
        assert TWO(beyond).argmax() != y and TWO(before).argmax() == y


@pytest.mark.parametrize("random_start", [False, True])
def test_under_l2_it_finds_the_nearest_misclassified_point(random_start: bool) -> None:
    ball = Threat("l2", 2.0)  # wide: nothing but the search for c leads to the boundary
    attack = CW(ball, steps=200, step_size=0.2, random_start=random_start)
    x_adv = attack.perturb(loss_of(TWO), TWO.x)
    assert TWO.fooled(x_adv).all()
    found, nearest = ball.distance(TWO.x, x_adv), TWO.nearest("l2")
    assert (found >= 0.999 * nearest).all()
    assert (found <= 1.03 * nearest).all()


def test_with_several_classes_it_comes_near_the_nearest_one() -> None:
    ball = Threat("l2", 2.0)
    x_adv = CW(ball, steps=200, step_size=0.2, random_start=False).perturb(loss_of(FOUR), FOUR.x)
    assert FOUR.fooled(x_adv).all()
    assert (ball.distance(FOUR.x, x_adv) <= 1.3 * FOUR.nearest("l2")).all()


def test_confidence_buys_margin_with_distance() -> None:
    ball, loss = Threat("l2", 2.0), loss_of(TWO)
    near = CW(ball, steps=100, step_size=0.2, random_start=False).perturb(loss, TWO.x)
    sure = CW(ball, steps=100, step_size=0.2, confidence=0.5, random_start=False).perturb(loss, TWO.x)
    assert (loss(near) > 0).all() and (loss(near) < 0.2).all()
    assert (loss(sure) >= 0.5).all() and (loss(sure) < 0.7).all()
    slope = (TWO.weight[0] - TWO.weight[1]).norm()
    assert torch.allclose(ball.distance(TWO.x, sure), TWO.nearest("l2") + 0.5 / slope, rtol=0.03)


def test_where_no_point_of_the_ball_fools_the_nearest_try_comes_back() -> None:
    ball = Threat("l2", 0.01)
    x_adv = CW(ball, steps=10, searches=2).perturb(loss_of(TWO), TWO.x)
    assert ball.contains(TWO.x, x_adv).all() and not torch.equal(x_adv, TWO.x)


def test_under_linf_every_point_it_asks_about_is_allowed() -> None:
    ball, asked = Threat("linf", 0.1), []
    x = torch.cat([TWO.x, TWO.x.round()])

    def loss(v: Tensor) -> Tensor:
        asked.append(ball.contains(x, v, tolerance=1e-6))
        return v.flatten(1).sum(dim=1)

    x_adv = CW(ball, steps=40).perturb(loss, x)
    assert torch.stack(asked).all()
    assert torch.allclose(x_adv, (x + 0.1).clamp_max(1.0), atol=1e-2)


def test_where_there_is_no_gradient_it_stays_where_it_started() -> None:
    for norm, wobble in zip(NORMS, (1e-5, 5e-3), strict=True):  # Adam follows even rounding errors of the distance
        attack = CW(Threat(norm, 0.1), steps=3, random_start=False)
        x_adv = attack.perturb(lambda x: margin(TWO(x.detach()), TWO.y), TWO.x)
        assert torch.allclose(x_adv, TWO.x, atol=wobble)


def test_steps_follow_adam() -> None:
    ball, count = Threat("linf", 0.1), 6
    asked: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(TWO.x[0].numel(), generator=generator)

    def curved(x: Tensor) -> Tensor:
        return torch.sin(3 * x.flatten(1)) @ weight

    def loss(x: Tensor) -> Tensor:
        asked.append(x.detach())
        return curved(x)

    CW(ball, steps=count, step_size=0.02, random_start=False).perturb(loss, TWO.x)
    u = torch.zeros_like(TWO.x, requires_grad=True)  # the images lie mid-box
    adam = torch.optim.Adam([u], lr=0.02)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: 1 - i / count)
    for point in asked:
        by_hand = TWO.x + 0.1 * torch.tanh(u / 0.1)
        assert torch.allclose(point, by_hand, atol=1e-5)
        adam.zero_grad()
        (-curved(by_hand).sum()).backward()
        adam.step()
        decay.step()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: CW(Threat(), steps=0), "steps=0"),
        (lambda: CW(Threat(), searches=0), "searches=0"),
        (lambda: CW(Threat(), step_size=0.0), "step_size=0.0"),
        (lambda: CW(Threat(), confidence=-1.0), "confidence=-1.0"),
        (lambda: CW(Threat("l1", 1.0)), "not l1; use APGD"),
    ],
)
def test_settings_out_of_range_are_named(wrong: Callable[[], CW], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        wrong()
