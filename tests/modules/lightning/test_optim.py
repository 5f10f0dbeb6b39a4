from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modules.lightning.optim import OptimizerSettings, warmup_cosine


def test_the_factor_rises_to_one_and_falls_to_zero() -> None:
    factors = [warmup_cosine(step, warmup_steps=4, max_steps=12) for step in range(13)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[8] == pytest.approx(0.5)
    assert factors[6] == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert factors[12] == pytest.approx(0.0, abs=1e-15)


@given(warmup=st.integers(0, 50), extra=st.integers(1, 100), step=st.integers(0, 400))
def test_the_factor_stays_in_zero_to_one_and_never_turns_twice(warmup: int, extra: int, step: int) -> None:
    def factor(s: int) -> float:
        return warmup_cosine(s, warmup_steps=warmup, max_steps=warmup + extra)

    assert 0 <= factor(step) <= 1
    assert (factor(step + 1) >= factor(step)) == (step < warmup or step >= warmup + extra)


def _run(settings: OptimizerSettings, steps: int) -> tuple[list[float], Any]:
    model = nn.Linear(3, 2)
    built = settings.build(model.named_parameters())
    optimizer, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    assert built["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates, scheduler


def test_the_first_step_is_made_with_the_first_rate_of_the_schedule() -> None:
    rates, _ = _run(OptimizerSettings(lr=0.1, warmup_steps=2, max_steps=6), 6)
    expected = [0.1 * warmup_cosine(s, warmup_steps=2, max_steps=6) for s in range(6)]
    assert rates == pytest.approx(expected)
    assert rates[0] == pytest.approx(0.05)


def test_a_constant_schedule_stays_at_the_peak_after_the_warm_up() -> None:
    settings = OptimizerSettings(lr=0.1, warmup_steps=2, max_steps=5, schedule="constant")
    assert _run(settings, 7)[0] == pytest.approx([0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert OptimizerSettings(warmup_steps=0, max_steps=5, schedule="constant").factor(0) == 1


def test_a_schedule_goes_on_where_its_state_says() -> None:
    settings = OptimizerSettings(lr=0.1, warmup_steps=2, max_steps=6)
    _, half = _run(settings, 3)
    built = settings.build(nn.Linear(3, 2).named_parameters())
    scheduler = built["lr_scheduler"]["scheduler"]
    scheduler.load_state_dict(half.state_dict())
    assert scheduler.get_last_lr() == pytest.approx([0.1 * settings.factor(3)])


def test_weight_decay_spares_gains_and_biases_only_when_asked() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    groups = OptimizerSettings(weight_decay=0.3).build(model.named_parameters())["optimizer"].param_groups
    assert [(g["weight_decay"], len(g["params"])) for g in groups] == [(0.3, 4)]
    groups = (
        OptimizerSettings(weight_decay=0.3, decay_all=False).build(model.named_parameters())["optimizer"].param_groups
    )
    assert [(g["weight_decay"], [p.ndim for p in g["params"]]) for g in groups] == [
        (0.3, [2]),
        (0.0, [1, 1, 1]),
    ]


def test_frozen_parameters_are_left_out_and_all_frozen_is_refused() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    (group,) = OptimizerSettings().build(model.named_parameters())["optimizer"].param_groups
    assert len(group["params"]) == 1 and group["params"][0] is model.weight
    assert group["betas"] == (0.9, 0.999) and group["eps"] == 1e-8
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="^nothing to train: every parameter is frozen$"):
        OptimizerSettings().build(model.named_parameters())


def test_one_step_of_the_optimizer_is_adamw_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    settings = OptimizerSettings(lr=0.1, weight_decay=0.5, betas=(0.8, 0.9), eps=1e-3, warmup_steps=0, max_steps=9)
    optimizer = settings.build([("weight", weight)])["optimizer"]
    weight.grad = torch.tensor([3.0])
    optimizer.step()
    assert weight.item() == pytest.approx(2 - 0.1 * 0.5 * 2 - 0.1 * 3 / (3 + 1e-3), rel=1e-6)


def built(layer: nn.Module) -> torch.optim.Optimizer:
    settings = OptimizerSettings(lr=0.01, weight_decay=0.1, warmup_steps=0, schedule="constant")
    return settings.build(layer.named_parameters())["optimizer"]


def steps(layer: nn.Module, optimizer: torch.optim.Optimizer, count: int = 10) -> None:
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(0)).double()
    for _ in range(count):
        optimizer.zero_grad()
        layer(x).cos().sum().backward()
        optimizer.step()


def test_ten_steps_in_one_kernel_end_where_torchs_loop_over_tensors_does() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)).double()
    twin = copy.deepcopy(layer)
    steps(layer, built(layer))
    steps(twin, torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.1, foreach=False, fused=False))
    torch.testing.assert_close(layer.state_dict(), twin.state_dict(), rtol=1e-12, atol=1e-14)


def test_scaled_gradients_are_divided_before_they_are_clipped_and_spent_on_a_step() -> None:
    """Torch's fused optimizers divide inside the step, too late for a bound on the gradient's length."""
    layer, x = nn.Linear(6, 2), torch.randn(4, 6)
    twin = copy.deepcopy(layer)
    for one, scale in ((layer, 1024.0), (twin, 1.0)):
        optimizer, scaler = built(one), torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(one(x).square().sum()).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(one.parameters(), 0.1)
        scaler.step(optimizer)
    torch.testing.assert_close(layer.state_dict(), twin.state_dict())


def test_a_state_from_before_one_kernel_did_the_step_goes_on() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 2).double()
    twin = copy.deepcopy(layer)
    old = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.1)
    steps(twin, old, 3)
    layer.load_state_dict(twin.state_dict())
    optimizer = built(layer)
    optimizer.load_state_dict(copy.deepcopy(old.state_dict()))
    steps(layer, optimizer, 3)
    steps(twin, old, 3)
    torch.testing.assert_close(layer.state_dict(), twin.state_dict(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"lr": -1.0}, "lr=-1.0: must be positive"),
        ({"lr": math.nan}, "lr=nan: must be positive"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1: must be 0 or more"),
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\): must be two numbers in \[0, 1\)"),
        ({"eps": 0.0}, "eps=0.0: must be positive"),
        ({"schedule": "step"}, "unknown schedule 'step'; choose one of: cosine, constant"),
        (
            {"warmup_steps": 9, "max_steps": 9},
            r"warmup_steps=9: must be in 0\.\.8, below max_steps=9",
        ),
        ({"warmup_steps": -1}, r"warmup_steps=-1: must be in 0\.\.19999"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}"):
        OptimizerSettings(**wrong)
