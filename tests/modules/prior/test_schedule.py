from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modules.prior.schedule import NoiseSchedule, ScheduleKind

TABLES = {
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "p2_loss_weight",
}


@pytest.mark.parametrize(
    ("t", "abar"),
    [
        (0, 0.999959),
        (100, 0.971576),
        (250, 0.845888),
        (500, 0.492285),
        (750, 0.143179),
        (900, 0.0236161),
        (950, 0.00582015),
        (990, 1.967e-4),
        (998, 2.429e-6),
        (999, 2.429e-9),
    ],
)
def test_the_cosine_schedule_keeps_the_signal_measured_in_the_reference(t: int, abar: float) -> None:
    assert NoiseSchedule().alphas_cumprod[t].item() == pytest.approx(abar, rel=5e-4 if t > 980 else 5e-6)


@pytest.mark.parametrize(("t", "beta"), [(0, 4.128e-5), (100, 5.319e-4), (500, 3.156e-3), (900, 0.01974), (999, 0.999)])
def test_the_cosine_schedule_has_the_step_variances_measured_in_the_reference(t: int, beta: float) -> None:
    assert NoiseSchedule().betas[t].item() == pytest.approx(beta, rel=3e-4)


def test_the_tables_bear_the_names_of_the_checkpoints_and_are_float32() -> None:
    tables = NoiseSchedule(timesteps=30).state_dict()
    assert set(tables) == TABLES
    assert all(t.shape == (30,) and t.dtype == torch.float32 for t in tables.values())


@pytest.mark.parametrize("kind", get_args(ScheduleKind))
def test_every_schedule_loses_signal_step_by_step_and_its_posterior_is_bayes_rule(
    kind: ScheduleKind,
) -> None:
    schedule = NoiseSchedule(timesteps=50, kind=kind)
    kept = [1.0]
    for beta in schedule.betas.tolist():
        assert 0 < beta <= 1
        kept.append(kept[-1] * (1 - beta))
    assert schedule.alphas_cumprod.tolist() == pytest.approx(kept[1:], rel=1e-4, abs=1e-12)
    assert schedule.alphas_cumprod_prev.tolist() == pytest.approx(kept[:-1], rel=1e-4, abs=1e-12)
    t = 20  # a product of Gaussians: N(sqrt(abar') x0, 1-abar') and N(sqrt(1-beta) x_(t-1), beta)
    beta, before = schedule.betas[t].item(), kept[t]
    precision = 1 / (1 - before) + (1 - beta) / beta
    x0, x_t = 1.7, -0.4
    mean = (math.sqrt(before) * x0 / (1 - before) + math.sqrt(1 - beta) * x_t / beta) / precision
    got_mean, got_variance, got_log = schedule.posterior(torch.tensor([[x0]]), torch.tensor([[x_t]]), torch.tensor([t]))
    assert got_mean.item() == pytest.approx(mean, rel=1e-4)
    assert got_variance.item() == pytest.approx(1 / precision, rel=1e-4)
    assert got_log.item() == pytest.approx(-math.log(precision), rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("linear", 1e-4, 0.02),
        ("quadratic", 1e-4, 0.02),
        ("sigmoid", 1e-4 + 0.0199 / (1 + math.exp(6)), 1e-4 + 0.0199 / (1 + math.exp(-6))),
        ("jsd", 1e-3, 1.0),
    ],
)
def test_the_other_schedules_have_their_known_ends(kind: ScheduleKind, first: float, last: float) -> None:
    betas = NoiseSchedule(kind=kind).betas
    assert betas[0].item() == pytest.approx(first, rel=1e-5)
    assert betas[-1].item() == pytest.approx(last, rel=1e-5)


@given(t=st.integers(0, 990), seed=st.integers(0, 2**31))
def test_x0_eps_and_velocity_are_three_views_of_one_noisy_point(t: int, seed: int) -> None:
    schedule = NoiseSchedule().double()
    x0, eps = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)).double()
    steps = torch.full((3,), t)
    x_t = schedule.add_noise(x0, steps, eps)
    near: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(schedule.x0_from_eps(x_t, steps, eps), x0, **near)
    v = schedule.velocity(x0, steps, eps)
    torch.testing.assert_close(schedule.x0_from_velocity(x_t, steps, v), x0, **near)
    if t > 5:  # early steps hold so little noise that float32 tables lose it
        torch.testing.assert_close(schedule.eps_from_x0(x_t, steps, x0), eps, **near)


def test_an_unknown_schedule_or_too_few_steps_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^unknown noise schedule kind 'cosin'; choose one of: cosine, "):
        NoiseSchedule(kind="cosin")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^timesteps=20: the linear schedule needs at least 21$"):
        NoiseSchedule(timesteps=20, kind="linear")
