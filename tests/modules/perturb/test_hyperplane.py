"""The step onto a hyperplane within the box, against solvers that know nothing of its structure."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from modules.perturb.hyperplane import step_to_hyperplane
from modules.perturb.threat import Norm

DIMENSIONS = 12
every_norm = pytest.mark.parametrize("norm", get_args(Norm))


def problems(count: int, *, seed: int = 0, share: float = 0.6) -> tuple[Tensor, Tensor, Tensor]:
    """Images, normals and gaps in float64; ``share`` of what the box allows has to be travelled, to either side."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, 2, 2, generator=generator, dtype=torch.float64)
    x[:, 0, 0, 0], x[:, 1, 0, 0] = 0.0, 1.0  # on the box's faces too
    normal = torch.randn(count, 3, 2, 2, generator=generator, dtype=torch.float64)
    normal[:, 2, 1, 1] = 0.0
    normal[:, 2, 0, 0] = normal[:, 2, 0, 1]  # a tie
    side = torch.where(torch.arange(count) % 2 == 0, 1.0, -1.0)
    farthest = torch.where(normal * side.view(-1, 1, 1, 1) > 0, -x, 1 - x)
    reach = (normal * farthest).flatten(1).sum(dim=1).abs()
    return x, normal, side * reach * share * torch.rand(count, generator=generator, dtype=torch.float64)


def length(step: Tensor, norm: Norm) -> Tensor:
    return torch.linalg.vector_norm(step.flatten(1), ord={"linf": float("inf"), "l2": 2.0, "l1": 1.0}[norm], dim=1)


def feasible(x: Tensor, normal: Tensor, gap: Tensor, step: Tensor, tolerance: float = 1e-9) -> bool:
    """Whether a step ends on the hyperplane and in the box."""
    on_plane = ((normal * step).flatten(1).sum(dim=1) + gap).abs() <= tolerance
    in_box = ((x + step >= -tolerance) & (x + step <= 1 + tolerance)).flatten(1).all(dim=1)
    return bool((on_plane & in_box).all())


def shortest_length(x: np.ndarray, normal: np.ndarray, gap: float, norm: Norm) -> float:
    """By linear programming; for l2 by a general solver with constraints."""
    d = len(x)
    if norm == "l2":
        answer = minimize(
            lambda v: v @ v,
            np.zeros(d),
            jac=lambda v: 2 * v,
            bounds=list(zip(-x, 1 - x, strict=True)),
            constraints={"type": "eq", "fun": lambda v: normal @ v + gap, "jac": lambda v: normal},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return float(np.sqrt(answer.fun))
    bounds = [(-v, 1 - v) for v in x]
    if norm == "linf":  # variables: the step, and one bound on all of its entries
        above, cost, extra = -np.ones((d, 1)), np.eye(d + 1)[-1], 1
    else:  # one bound for each entry
        above, cost, extra = -np.eye(d), np.r_[np.zeros(d), np.ones(d)], d
    answer = linprog(
        cost,
        A_ub=np.block([[np.eye(d), above], [-np.eye(d), above]]),
        b_ub=np.zeros(2 * d),
        A_eq=np.r_[normal, np.zeros(extra)][None],
        b_eq=[-gap],
        bounds=bounds + [(0, None)] * extra,
    )
    return float(answer.fun)


@every_norm
@pytest.mark.parametrize("share", [0.05, 0.6, 1.0])
def test_no_solver_finds_a_shorter_step(norm: Norm, share: float) -> None:
    x, normal, gap = problems(24, share=share)
    step = step_to_hyperplane(x, normal, gap, norm)
    assert feasible(x, normal, gap, step)
    by_solver = [
        shortest_length(x[i].flatten().numpy(), normal[i].flatten().numpy(), float(gap[i]), norm) for i in range(24)
    ]
    assert torch.allclose(length(step, norm), torch.tensor(by_solver, dtype=torch.float64), atol=1e-6)


@every_norm
def test_the_box_matters_in_these_problems(norm: Norm) -> None:
    """Steps that ignore the box are shorter and leave it: the checks above can tell."""
    x, normal, gap = problems(24)
    flat = normal.flatten(1)
    direction = {"linf": flat.sign(), "l2": flat, "l1": flat * (flat.abs() == flat.abs().amax(1, keepdim=True))}[norm]
    step = (-gap / (flat * direction).sum(dim=1))[:, None] * direction
    assert not feasible(x, normal, gap, step.view_as(x))
    assert (length(step, norm) <= length(step_to_hyperplane(x, normal, gap, norm), norm) + 1e-9).all()


@every_norm
def test_a_plane_that_misses_the_box_is_approached_as_far_as_the_box_goes(norm: Norm) -> None:
    x, normal, gap = problems(10)
    step = step_to_hyperplane(x, normal, gap.sign() * 1e3, norm)
    corner = torch.where(normal * gap.view(-1, 1, 1, 1) > 0, -x, 1 - x) * (normal != 0)
    assert torch.allclose(step, corner)


@every_norm
def test_on_the_plane_or_without_a_normal_nothing_moves(norm: Norm) -> None:
    x, normal, gap = problems(10)
    assert not step_to_hyperplane(x, normal, torch.zeros_like(gap), norm).any()
    for nothing in (torch.zeros_like(normal), torch.zeros_like(normal).float()):
        assert not step_to_hyperplane(x.to(nothing.dtype), nothing, gap.to(nothing.dtype), norm).any()


@every_norm
def test_the_step_depends_neither_on_the_batch_nor_on_the_scale_of_the_function(norm: Norm) -> None:
    x, normal, gap = problems(16)
    step = step_to_hyperplane(x, normal, gap, norm)
    assert torch.allclose(step[5:6], step_to_hyperplane(x[5:6], normal[5:6], gap[5:6], norm))
    assert torch.allclose(step, step_to_hyperplane(x, normal * 1e-30, gap * 1e-30, norm))
    small = step_to_hyperplane(x.float(), normal.float() * 1e-25, gap.float() * 1e-25, norm)
    assert torch.allclose(step.float(), small, atol=1e-5)


@every_norm
def test_single_precision_is_enough_for_whole_images(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 3, 224, 224, generator=generator)
    normal = torch.randn(2, 3, 224, 224, generator=generator) ** 3
    gap = torch.tensor([300.0, -9000.0])
    single = step_to_hyperplane(x, normal, gap, norm)
    double = step_to_hyperplane(x.double(), normal.double(), gap.double(), norm)
    assert feasible(x.double(), normal.double(), gap.double(), double)
    assert torch.allclose(length(single, norm).double(), length(double, norm), rtol=1e-4)
    assert ((normal.double() * single).flatten(1).sum(dim=1) + gap).abs().max() < 1e-3 * gap.abs().min()


@every_norm
def test_the_reference_takes_steps_of_the_same_length(norm: Norm) -> None:
    package = pytest.importorskip("pyautoattack.fab_projections", reason="pyautoattack is a test extra")
    project = getattr(package, f"projection_{norm}")
    x, normal, gap = (t.float() for t in problems(200, seed=1))
    points, normals = x.flatten(1), normal.flatten(1)
    theirs = project(points, normals, (points * normals).sum(dim=1) - gap)
    ours = step_to_hyperplane(x, normal, gap, norm)
    assert torch.allclose(length(ours, norm), length(theirs, norm), atol=1e-4)
