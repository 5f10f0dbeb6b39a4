"""CLIPure-Cos: the closed form, the published iteration, and the gradient the release destroys."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.defenses import CLIPureCos, View, route
from modules.defenses.clipure_cos import angle_after, angle_to, rotate
from tests.modules.toys import LinearEncoder

D = 24
T = F.normalize(torch.randn(D, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=0)


def at_angles(degrees: list[float]) -> Tensor:
    """Unit vectors [B, D] at these angles to T."""
    other = torch.randn(len(degrees), D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    across = F.normalize(other - (other @ T)[:, None] * T, dim=1)
    theta = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return theta.cos()[:, None] * T + theta.sin()[:, None] * across


def iterate(e: Tensor, steps: int, s: float) -> Tensor:
    """The published loop, written slowly: gradient ascent on the cosine, one norm for the batch."""
    for _ in range(steps):
        e = e.detach().requires_grad_()
        r = e.norm(dim=1, keepdim=True)
        (g,) = torch.autograd.grad(-F.cosine_similarity(e, T.expand_as(e), dim=1).sum(), e)
        m = -(r * g) / (r * g).norm()
        e = r * F.normalize(e / r + s * m, dim=1)
    return e.detach()


def coefficients(degrees: list[float], steps: int, s: float, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """psi in degrees, alpha, beta after the closed form."""
    theta = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    psi = angle_after(theta, steps=steps, step_size=s, group=group)
    return psi * 180 / math.pi, psi.sin() / theta.sin(), (theta - psi).sin() / theta.sin()


@pytest.mark.parametrize(
    ("degrees", "steps", "psi", "alpha", "beta"),
    [
        ([60.0], 1, [-28.0908], [-0.543715], [1.154060]),
        ([75.0], 3, [-13.0908], [-0.234486], [1.034702]),
        ([78.0], 9, [-10.0908], [-0.179124], [1.021773]),
        ([85.0], 1, [-3.0908], [-0.054125], [1.003263]),
        ([78.0], 2, [78.0], [1.0], [0.0]),
        ([85.0], 10, [85.0], [1.0], [0.0]),
        ([89.0], 1, [0.9092], [0.015869], [0.999597]),
        ([89.0], 10, [-87.1817], [-0.998943], [0.066603]),
        ([75.0, 80.0], 1, [-12.2746, -7.3268], [-0.220097, -0.129495], [1.034105, 1.014322]),
        ([75.0, 80.0], 10, [76.5323, 77.4902], [1.006808, 0.991319], [-0.027684, 0.044466]),
        (
            [70.0, 75.0, 80.0, 85.0],
            10,
            [70.2420, 71.0365, 71.2576, 65.7801],
            [1.001528, 0.979088, 0.961582, 0.915461],
            [-0.004494, 0.071559, 0.154336, 0.330453],
        ),
        ([78.0] * 64, 10, [-72.1372] * 64, [-0.973057] * 64, [0.509049] * 64),
    ],
)
def test_the_published_steps_end_at_the_measured_angles(
    degrees: list[float], steps: int, psi: list[float], alpha: list[float], beta: list[float]
) -> None:
    found = coefficients(degrees, steps, 30.0, len(degrees))
    for value, expected, tolerance in zip(found, (psi, alpha, beta), (6e-5, 6e-7, 6e-7), strict=True):
        assert value.tolist() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("s", "psi", "alpha", "beta"),
    [(0.05, 49.3759, 0.775955, 0.489763), (0.02, 66.5424, 0.937849, 0.203081)],
)
def test_small_honest_steps_end_at_the_measured_angles(s: float, psi: float, alpha: float, beta: float) -> None:
    found = coefficients([78.0], 10, s, 1)
    for value, expected in zip(found, (psi, alpha, beta), strict=True):
        assert float(value) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("degrees", [[78.0], [60.0, 75.0], [70.0, 75.0, 80.0, 85.0, 91.0, 120.0]])
@pytest.mark.parametrize(("steps", "s"), [(1, 30.0), (10, 30.0), (10, 0.05), (7, 0.7)])
def test_the_closed_form_is_the_iteration(degrees: list[float], steps: int, s: float) -> None:
    e = at_angles(degrees)
    theta = angle_to(e, T)
    psi = angle_after(theta, steps=steps, step_size=s, group=len(degrees))
    assert (rotate(e, T, theta, psi) - iterate(e, steps, s)).abs().max() < 1e-12


def test_honest_mode_is_the_iteration_sample_by_sample() -> None:
    z = 5 * at_angles([60.0, 75.0, 85.0, 100.0])
    defense = CLIPureCos(LinearEncoder(D), T)
    slow = torch.cat([5 * iterate(row[None] / 5, 10, 0.05) for row in z])
    assert (defense.purify_latent(z) - slow).abs().max() < 1e-12


def test_honest_mode_stops_at_the_template_and_never_turns_past_it() -> None:
    z = at_angles([5.0, 20.0])
    stopped = CLIPureCos(LinearEncoder(D), T).purify_latent(z)  # ten steps turn by about 28.6 degrees
    assert (stopped - T).abs().max() < 1e-9
    past = CLIPureCos(LinearEncoder(D), T, clip_overshoot=False).purify_latent(z)
    assert (past - T).norm(dim=1).min() > 1e-3


def test_the_result_stays_in_the_plane_of_latent_and_template() -> None:
    z = at_angles([60.0, 75.0, 85.0])
    purified = CLIPureCos(LinearEncoder(D), T).purify_latent(z)
    for before, after in zip(z, purified, strict=True):
        assert int(torch.linalg.matrix_rank(torch.stack([before, after, T]), tol=1e-9)) == 2


def test_a_latent_on_the_template_or_opposite_stays_finite_with_its_gradient() -> None:
    z = torch.stack([T, -T, 2 * T]).requires_grad_()
    purified = CLIPureCos(LinearEncoder(D), T).purify_latent(z)
    (grad,) = torch.autograd.grad(purified.sum(), z)
    assert torch.isfinite(purified).all() and torch.isfinite(grad).all()


def gradient(defense: CLIPureCos, view: View, x: Tensor, head: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    logits = 100 * F.normalize(route(view, defense).looks[0].encode_image(leaf), dim=1) @ head.T
    (grad,) = torch.autograd.grad(F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long)), leaf)
    return grad


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_the_released_gradient_is_destroyed_and_the_exact_one_is_not(batch: int) -> None:
    encoder = LinearEncoder(D).freeze()
    template = F.normalize(torch.randn(D, generator=torch.Generator().manual_seed(4)), dim=0)
    head = F.normalize(torch.randn(10, D, generator=torch.Generator().manual_seed(5)), dim=1)
    x = torch.rand(batch, 3, 4, 4, generator=torch.Generator().manual_seed(6))
    legacy = CLIPureCos(encoder, template, mode="legacy", legacy_batch=batch)
    plain = CLIPureCos(encoder, template, steps=0)
    assert (gradient(legacy, View.released, x, head) == 0).all()  # underflow at half precision
    exact, bare = gradient(legacy, View.adaptive, x, head), gradient(plain, View.adaptive, x, head)
    assert exact.norm() > 0.05 * bare.norm()
    if batch == 1:
        cosines = [
            F.cosine_similarity(gradient(legacy, view, x, head).flatten(1), bare.flatten(1))
            for view in (View.adaptive, View.bpda)
        ]
        assert min(float(c) for c in cosines) > 0.99


def test_released_values_are_the_published_iteration_in_groups() -> None:
    z = at_angles([60.0, 75.0, 80.0, 85.0]).float()
    legacy = CLIPureCos(LinearEncoder(D), T.float(), mode="legacy", legacy_batch=2)
    slow = torch.cat([iterate(F.normalize(part.half().double(), dim=1), 10, 30.0) for part in z.split(2)])
    assert (legacy.purify_latent(z) - slow).abs().max() < 1e-4


def test_legacy_mode_depends_on_the_neighbour_and_says_so() -> None:
    legacy = CLIPureCos(LinearEncoder(D), T, mode="legacy")
    z = at_angles([70.0, 85.0, 80.0])
    together, alone = legacy.purify_latent(z[:2])[0], legacy.purify_latent(z[[0, 2]])[0]
    assert (together - alone).abs().max() > 1e-3
    assert legacy.group == 2 and legacy.artefact == "clipure-legacy"


def test_contradictory_settings_are_named() -> None:
    with pytest.raises(ValueError, match="no rotation_deg in legacy mode"):
        CLIPureCos(LinearEncoder(D), T, mode="legacy", rotation_deg=10.0)
    with pytest.raises(ValueError, match="steps >= 0"):
        CLIPureCos(LinearEncoder(D), T, steps=-1)
