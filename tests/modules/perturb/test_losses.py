"""Per-image losses against slow formulas."""

from __future__ import annotations

import math

import pytest
import torch

from modules.perturb import losses

LOGITS = torch.randn(40, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(40) % 7


def slow_dlr(z: list[float], y: int) -> float:
    ordered = sorted(z, reverse=True)
    other = max(value for j, value in enumerate(z) if j != y)
    return -(z[y] - other) / (ordered[0] - ordered[2] + 1e-12)


def slow_targeted(z: list[float], y: int, t: int) -> float:
    ordered = sorted(z, reverse=True)
    return -(z[y] - z[t]) / (ordered[0] - 0.5 * (ordered[2] + ordered[3]) + 1e-12)


def test_cross_entropy_equals_its_definition() -> None:
    for z, y, value in zip(LOGITS.tolist(), Y.tolist(), losses.cross_entropy(LOGITS, Y).tolist(), strict=True):
        assert value == pytest.approx(math.log(sum(math.exp(v) for v in z)) - z[y])


def test_dlr_equals_its_definition() -> None:
    for z, y, value in zip(LOGITS.tolist(), Y.tolist(), losses.dlr(LOGITS, Y).tolist(), strict=True):
        assert value == pytest.approx(slow_dlr(z, y))


def test_targeted_dlr_equals_its_definition() -> None:
    target = (Y + 3) % 7
    found = losses.targeted_dlr(LOGITS, Y, target)
    rows = zip(LOGITS.tolist(), Y.tolist(), target.tolist(), found.tolist(), strict=True)
    for z, y, t, value in rows:
        assert value == pytest.approx(slow_targeted(z, y, t))


def test_dlr_does_not_change_with_shift_and_scale() -> None:
    assert torch.allclose(losses.dlr(LOGITS, Y), losses.dlr(3 * LOGITS - 5, Y))


def test_margin_is_positive_exactly_where_the_prediction_is_wrong() -> None:
    assert torch.equal(losses.margin(LOGITS, Y) > 0, LOGITS.argmax(dim=1) != Y)


def test_fares_loss_sums_over_dimensions_and_is_d_times_the_mean_square() -> None:
    z, z0 = LOGITS, LOGITS.flip(0)
    mean_square = torch.nn.functional.mse_loss(z, z0, reduction="none").mean(dim=1)
    assert torch.allclose(losses.squared_l2(z, z0), 7 * mean_square)


def test_cosine_distance_is_zero_for_equal_and_two_for_opposite_embeddings() -> None:
    assert losses.cosine_distance(LOGITS, 4 * LOGITS).abs().max() < 1e-9
    assert torch.allclose(losses.cosine_distance(LOGITS, -LOGITS), torch.tensor(2.0, dtype=torch.float64))


def test_too_few_classes_are_named_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="at least 3 classes, not 2; use loss 'ce'"):
        losses.dlr(LOGITS[:, :2], Y % 2)
    with pytest.raises(ValueError, match="at least 4 classes, not 3"):
        losses.targeted_dlr(LOGITS[:, :3], Y % 3, (Y + 1) % 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_are_computed_in_single(dtype: torch.dtype) -> None:
    z, other = LOGITS.to(dtype), LOGITS.flip(0).to(dtype)
    target = (Y + 3) % 7
    found = {
        "ce": (losses.cross_entropy(z, Y), losses.cross_entropy(z.float(), Y)),
        "dlr": (losses.dlr(z, Y), losses.dlr(z.float(), Y)),
        "targeted": (losses.targeted_dlr(z, Y, target), losses.targeted_dlr(z.float(), Y, target)),
        "margin": (losses.margin(z, Y), losses.margin(z.float(), Y)),
        "l2": (losses.squared_l2(z, other), losses.squared_l2(z.float(), other.float())),
        "cosine": (losses.cosine_distance(z, other), losses.cosine_distance(z.float(), other.float())),
    }
    for name, (half, single) in found.items():
        assert half.dtype == torch.float32 and torch.equal(half, single), name


def test_single_and_double_precision_stay_what_they_are() -> None:
    for z in (LOGITS, LOGITS.float()):
        assert losses.at_least_single(z) is z
