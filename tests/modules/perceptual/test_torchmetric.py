from __future__ import annotations

import pytest
import torch

from modules.perceptual import Ensemble, PerceptualMetric
from modules.perceptual.torchmetric import MeanPerceptualDistance
from tests.modules.toys import ConvEncoder, images

ENCODER = ConvEncoder(size=8)
A, B = images(7, seed=1), images(7, seed=2)


def test_every_pair_counts_once_however_batches_are_cut() -> None:
    expected = PerceptualMetric(ENCODER)(A, B).mean()
    for size in (1, 3, 7):
        metric = MeanPerceptualDistance(ENCODER)
        for a, b in zip(A.split(size), B.split(size), strict=True):
            metric.update(a, b)
        assert torch.allclose(metric.compute(), expected, atol=1e-6)


def test_states_of_processes_are_added_up() -> None:
    first, second, whole = (MeanPerceptualDistance(ENCODER) for _ in range(3))
    first.update(A[:5], B[:5])
    second.update(A[5:], B[5:])
    whole.update(A, B)
    for name, reduce in first._reductions.items():  # what a synchronisation does with the gathered states
        assert callable(reduce)
        setattr(first, name, reduce(torch.stack([getattr(first, name), getattr(second, name)])))
    first._computed = None
    assert torch.allclose(first.compute(), whole.compute())


def test_a_reset_forgets_and_an_ensemble_is_an_encoder() -> None:
    metric = MeanPerceptualDistance(Ensemble([ENCODER, ConvEncoder(size=8, seed=3)]))
    metric.update(A, A)
    assert metric.compute().item() == pytest.approx(0, abs=1e-6)
    metric.reset()
    metric.update(A, B)
    assert metric.compute() > 0.001
    assert not any(parameter.requires_grad for parameter in metric.parameters())


def test_no_pairs_have_no_mean() -> None:
    metric = MeanPerceptualDistance(ENCODER)
    metric.update(A[:0], B[:0])
    with pytest.raises(ValueError, match="update the metric first"):
        metric.compute()


def test_a_single_precision_sum_would_lose_what_the_double_keeps() -> None:
    metric = MeanPerceptualDistance(ENCODER)
    metric.total += 2.0**25  # beside so much, single precision has no thirds left
    before = metric.total.clone()
    metric.update(A, B)
    assert metric.total - before == pytest.approx(PerceptualMetric(ENCODER)(A, B).double().sum().item(), abs=1e-6)
