"""How gates are set: areas against pair counting, cuts against trying them all, rates on fresh images."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from modules.defenses.base import Defense
from modules.defenses.gates import Direction, area_under_roc, best_cut, cut_at, images_needed
from tests.modules.toys import ConvEncoder


def scores(count: int, seed: int, *, tied: bool = False) -> Tensor:
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * values).round() / 2 if tied else values


@pytest.mark.parametrize("tied", [False, True])
def test_the_area_is_the_share_of_pairs_in_order_and_sklearns(tied: bool) -> None:
    low, high = scores(37, 0, tied=tied), scores(23, 1, tied=tied) + 0.5
    pairs = [1.0 if h > l else 0.5 if h == l else 0.0 for h in high for l in low]  # noqa: E741
    found = area_under_roc(low, high)
    assert found == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    labels = [0] * len(low) + [1] * len(high)
    assert found == pytest.approx(roc_auc_score(labels, torch.cat([low, high])), abs=1e-12)


def test_areas_at_their_ends() -> None:
    ones = torch.ones(5)
    assert area_under_roc(ones, ones + 1) == 1
    assert area_under_roc(ones, ones - 1) == 0
    assert area_under_roc(ones, ones[:2]) == 0.5


@pytest.mark.parametrize("direction", ["above", "below"])
def test_no_cut_is_better_than_the_best(direction: Direction) -> None:
    clean, attacked = scores(30, 2, tied=True), scores(30, 3, tied=True) + 0.7
    sign = 1 if direction == "above" else -1

    def gain(cut: float) -> float:
        return float((sign * attacked > sign * cut).double().mean() - (sign * clean > sign * cut).double().mean())

    found = gain(best_cut(clean, attacked, direction))
    everywhere = torch.cat([clean, attacked, clean + 1e-9, clean - 1e-9])
    assert found >= max(gain(float(cut)) for cut in everywhere) - 1e-12


@pytest.mark.parametrize("direction", ["above", "below"])
@pytest.mark.parametrize(("fpr", "images"), [(0.05, 50), (0.05, 120), (0.2, 19), (0.5, 10), (0.01, 99)])
def test_fresh_images_are_flagged_as_rarely_as_asked(fpr: float, images: int, direction: Direction) -> None:
    """The mean rate over tuning splits is at most what was asked, and no more than 1 / (N + 1) below."""
    rates = []
    for seed in range(400):
        cut = cut_at(fpr, scores(images, seed), direction)
        assert cut is not None
        share = float(torch.special.ndtr(torch.tensor(cut, dtype=torch.float64)))
        rates.append(1 - share if direction == "above" else share)
    mean, error = sum(rates) / len(rates), torch.tensor(rates).std().item() / 20
    assert fpr - 1 / (images + 1) - 4 * error <= mean <= fpr + 4 * error


def test_the_careless_quantile_would_be_found() -> None:
    """The empirical quantile at floor(fpr N) flags more fresh images than it says."""
    rates = [1 - float(torch.special.ndtr(scores(19, seed).sort().values[-2])) for seed in range(400)]
    assert sum(rates) / len(rates) > 0.08  # at fpr 0.05


def test_too_few_images_give_no_cut() -> None:
    for fpr in (0.01, 0.05, 0.3, 0.5):
        needed = images_needed(fpr)
        assert cut_at(fpr, scores(needed, 0)) is not None
        assert cut_at(fpr, scores(needed - 1, 0)) is None
    assert (images_needed(0.05), images_needed(0.01)) == (19, 99)


def test_nothing_beyond_a_cut_of_equal_scores() -> None:
    same = torch.full((100,), 3.0)
    assert cut_at(0.05, same) == 3.0 and cut_at(0.05, same, "below") == 3.0  # beyond it is strictly beyond


def test_a_defence_without_a_gate_says_that_it_cannot_be_calibrated() -> None:
    defense = Defense(ConvEncoder())
    assert defense.gate_score(torch.zeros(1, 3, 8, 8)) is None
    with pytest.raises(ValueError, match="Defense has no gate that could be calibrated"):
        defense.calibrate_gate(torch.zeros(2), torch.ones(2))
