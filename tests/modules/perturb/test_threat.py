"""The ball and the box."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from modules import noise
from modules.perturb.threat import Norm, Threat

NORMS: list[Norm] = ["linf", "l2", "l1"]
seeds = st.integers(0, 10_000)


def batch(seed: int, scale: float = 1.0) -> Tensor:
    return torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=30)
@given(seed=seeds, eps=st.floats(1e-4, 2.0), scale=st.floats(0.01, 50.0))
def test_confined_points_lie_in_ball_and_box(norm: Norm, seed: int, eps: float, scale: float) -> None:
    threat = Threat(norm, eps)
    x = batch(seed)
    far = x + (batch(seed + 1) - 0.5) * scale
    near = threat.confine(x, far)
    assert threat.contains(x, near).all()
    assert ((near >= 0) & (near <= 1)).all()


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds)
@settings(max_examples=30)
def test_projection_is_the_nearest_point_of_the_ball(norm: Norm, seed: int) -> None:
    threat = Threat(norm, 0.5)
    delta = (batch(seed) - 0.5) * 4
    projected = threat.project(delta)
    other = threat.project((batch(seed + 7) - 0.5) * 4)  # any other point of the ball
    nearest = (delta - projected).flatten(1).norm(dim=1)
    assert (nearest <= (delta - other).flatten(1).norm(dim=1) + 1e-5).all()
    assert torch.allclose(threat.project(projected), projected, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_no_direction_of_unit_length_ascends_faster(norm: Norm) -> None:
    threat, grad = (
        Threat(norm, 1.0),
        torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
    )
    best = (threat.steepest(grad) * grad).flatten(1).sum(dim=1)
    dual = grad.flatten(1).norm(p={"linf": 1.0, "l2": 2.0, "l1": torch.inf}[norm], dim=1)
    assert torch.allclose(best, dual, rtol=1e-5)
    lengths = threat.distance(torch.zeros_like(grad), threat.steepest(grad))
    assert torch.allclose(lengths, torch.ones(5), rtol=1e-5)
    assert torch.equal(threat.steepest(torch.zeros_like(grad)), torch.zeros_like(grad))


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_fill_the_ball_evenly(norm: Norm) -> None:
    threat, x = Threat(norm, 0.3), torch.full((4000, 1, 2, 2), 0.5)
    with noise.samples(torch.arange(4000)):
        delta = threat.sample(x)
        surface = threat.sample_far(x)
    lengths = threat.distance(x, x + delta) / 0.3
    assert lengths.max() <= 1 + 1e-5
    # the length of a uniform point of a d-dimensional ball has distribution function r^d; here d = 4
    assert abs(float((lengths <= 0.5 ** (1 / 4)).float().mean()) - 0.5) < 0.03
    assert delta.mean().abs() < 0.01
    assert torch.allclose(threat.distance(x, x + surface), torch.tensor(0.3), rtol=1e-4)


@pytest.mark.parametrize("eps", [-1.0, math.nan, math.inf])
def test_a_radius_that_is_none_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match="eps is"):
        Threat("linf", eps)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of: linf, l2, l1"):
        Threat("l7", 0.1)  # pyright: ignore[reportArgumentType]


def test_contains_sees_a_point_outside() -> None:
    threat, x = Threat("linf", 0.1), torch.full((2, 3, 4, 4), 0.95)
    assert threat.contains(x, x - 0.1).all()
    assert not threat.contains(x, x - 0.11).any()
    assert not threat.contains(x, x + 0.08).any()  # in the ball, out of the box


def by_bisection(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The point of l1 ball and box nearest to y, image by image: the threshold is found by halving."""
    nearest = torch.empty_like(x)
    for i in range(len(x)):
        delta = (y[i] - x[i]).tolist()
        room = [1 - v if d > 0 else v for v, d in zip(x[i].tolist(), delta, strict=True)]

        def shortened(t: float, delta: list[float] = delta, room: list[float] = room) -> list[float]:
            return [min(max(abs(d) - t, 0.0), r) for d, r in zip(delta, room, strict=True)]

        low, high = 0.0, max(map(abs, delta))
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if sum(shortened(middle)) > eps else (low, middle)
        t = 0.0 if sum(shortened(0.0)) <= eps else high
        steps = [math.copysign(s, d) for s, d in zip(shortened(t), delta, strict=True)]
        nearest[i] = x[i] + torch.tensor(steps, dtype=x.dtype)
    return nearest


@settings(max_examples=60)
@given(seed=seeds, eps=st.floats(1e-3, 20.0), scale=st.floats(0.01, 8.0), corners=st.booleans())
def test_the_l1_projection_equals_bisection(seed: int, eps: float, scale: float, corners: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 20, generator=generator, dtype=torch.float64)
    x = x.round() if corners else x  # no room on one side, and ties
    y = x + torch.randn(3, 20, generator=generator, dtype=torch.float64) * scale
    assert torch.allclose(Threat("l1", eps).confine(x, y), by_bisection(x, y, eps), atol=1e-9)


@pytest.mark.parametrize("eps", [0.2, 0.6, 1.1])
def test_no_point_of_l1_ball_and_box_is_nearer_than_the_projection(eps: float) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    y = x + torch.randn(4, 5, generator=generator, dtype=torch.float64)
    ours = Threat("l1", eps).confine(x, y)
    for a, b, found in zip(x.numpy(), y.numpy(), ours.numpy(), strict=True):
        # delta = up - down turns the kink of |delta| into a linear constraint
        solved = minimize(
            lambda v, a=a, b=b: ((a + v[:5] - v[5:] - b) ** 2).sum(),
            x0=[0.0] * 10,
            bounds=[(0, 1 - p) for p in a] + [(0, p) for p in a],
            constraints={"type": "ineq", "fun": lambda v: eps - v.sum()},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert ((found - b) ** 2).sum() <= solved.fun + 1e-7
        assert abs(found - (a + solved.x[:5] - solved.x[5:])).max() < 1e-4


def test_projecting_to_the_ball_and_then_cutting_at_the_box_would_be_farther_away() -> None:
    threat, generator = Threat("l1", 2.0), torch.Generator().manual_seed(1)
    x = torch.rand(5, 20, generator=generator, dtype=torch.float64)
    y = x + torch.randn(5, 20, generator=generator, dtype=torch.float64)
    one_after_the_other = (x + threat.project(y - x)).clamp(0, 1)
    saved = (one_after_the_other - y).norm(dim=1) - (threat.confine(x, y) - y).norm(dim=1)
    assert (saved > -1e-9).all() and saved.mean() > 0.05


def test_an_l1_point_of_a_large_image_stays_inside_in_single_precision() -> None:
    threat = Threat("l1", 60.0)
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    y = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    near = threat.confine(x, y)
    assert threat.contains(x, near).all()
    assert torch.allclose(threat.distance(x, near), torch.tensor(60.0), rtol=1e-5)
    assert not threat.contains(x, x + (near - x) * 1.001).any()
    assert torch.equal(threat.confine(x, x), x)  # what does not move is not touched by rounding


def test_an_l1_start_in_a_narrow_box_is_still_in_the_box() -> None:
    x = torch.ones(6, 3, 4, 4)
    start = Threat("l1", 500.0).sample_far(x)
    assert ((x + start >= 0) & (x + start <= 1)).all() and (start < 0).any()


def test_a_radius_of_zero_leaves_the_images_alone() -> None:
    for norm in NORMS:
        assert torch.equal(Threat(norm, 0.0).confine(batch(0), batch(1)), batch(0))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 4 / 255), ("linf", 3.5 / 255), ("l2", 0.4), ("l1", 4.0)])
@pytest.mark.parametrize("grid", [True, False])
def test_a_rounded_point_is_a_picture_of_8_bits_in_ball_and_box(norm: Norm, eps: float, grid: bool) -> None:
    x = torch.rand(32, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    x = (x * 255).round() / 255 if grid else x
    threat = Threat(norm, eps)
    x_adv = threat.confine(x, x + threat.sample_far(x, "rounded"))
    found = threat.rounded(x, x_adv)
    assert threat.contains(x, found).all()
    levels = (found * 255 - (found * 255).round()).abs()
    assert (levels < 1e-3)[(found != x) & (found != x_adv)].all()
    if grid:
        assert (levels < 1e-3).all()
    if norm == "linf" and grid:  # the nearest level that the ball allows
        nearest = ((x_adv * 255).round() - (x * 255).round()).clamp(-int(eps * 255 + 1e-3), int(eps * 255 + 1e-3))
        torch.testing.assert_close(found, x + nearest / 255)
