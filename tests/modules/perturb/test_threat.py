"""The ball and the box."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modules import noise
from modules.perturb.threat import Norm, Threat

NORMS: list[Norm] = ["linf", "l2"]
seeds = st.integers(0, 10_000)


def batch(seed: int, scale: float = 1.0) -> Tensor:
    return torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("norm", NORMS)
@settings(deadline=None, max_examples=30)
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
@settings(deadline=None, max_examples=30)
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
    dual = grad.flatten(1).norm(p=1 if norm == "linf" else 2, dim=1)
    assert torch.allclose(best, dual, rtol=1e-5)


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
    with pytest.raises(ValueError, match="choose one of: linf, l2"):
        Threat("l7", 0.1)  # pyright: ignore[reportArgumentType]


def test_contains_sees_a_point_outside() -> None:
    threat, x = Threat("linf", 0.1), torch.full((2, 3, 4, 4), 0.95)
    assert threat.contains(x, x - 0.1).all()
    assert not threat.contains(x, x - 0.11).any()
    assert not threat.contains(x, x + 0.08).any()  # in the ball, out of the box
