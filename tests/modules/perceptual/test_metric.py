from __future__ import annotations

import pytest
import torch

from modules.defenses import CLIPureCos
from modules.encoders.base import ImageEncoder
from modules.perceptual import Ensemble, PerceptualMetric
from tests.modules.toys import ConvEncoder, LinearEncoder, images

ENCODER = ConvEncoder(size=4).freeze()
METRIC = PerceptualMetric(ENCODER)
A, B = images(6, size=4), images(6, size=4, seed=9)


def test_the_distance_is_one_minus_the_cosine_of_the_embeddings() -> None:
    za, zb = ENCODER(A).double(), ENCODER(B).double()
    wanted = 1 - (za * zb).sum(1) / (za.norm(dim=1) * zb.norm(dim=1))
    assert torch.allclose(METRIC(A, B).double(), wanted, atol=1e-6)


def test_the_distance_is_symmetric_zero_to_itself_and_the_same_in_any_batch() -> None:
    assert torch.allclose(METRIC(A, B), METRIC(B, A), atol=1e-6)
    assert METRIC(A, A).abs().max() < 1e-6
    one_by_one = torch.cat([METRIC(a[None], b[None]) for a, b in zip(A, B, strict=True)])
    assert torch.allclose(METRIC(A, B), one_by_one, atol=1e-6)


def test_all_pairs_are_the_pairs() -> None:
    table = METRIC.pairwise(A, B[:4], chunk=4)
    assert table.shape == (6, 4)
    for j in range(4):
        assert torch.allclose(table[:, j], METRIC(A, B[j : j + 1]), atol=1e-6)


def test_the_gradient_is_the_slope_of_finite_differences() -> None:
    metric = PerceptualMetric(ConvEncoder(size=4).double())
    a, b = A[:2].double(), B[:2].double()
    assert torch.autograd.gradcheck(lambda x: metric(x, b), a.clone().requires_grad_())


def test_an_ensembles_cosine_is_the_weighted_mean_of_its_members() -> None:
    members: list[ImageEncoder] = [ConvEncoder(size=4), LinearEncoder()]
    both = PerceptualMetric(Ensemble(members, weights=[3.0, 1.0]))
    wanted = 0.75 * PerceptualMetric(members[0])(A, B) + 0.25 * PerceptualMetric(members[1])(A, B)
    assert torch.allclose(both(A, B), wanted, atol=1e-6)
    assert both.encoder.embedding_dim == 28 and both(A, A).abs().max() < 1e-6


def test_a_defended_encoder_measures_too() -> None:
    blank = torch.nn.functional.normalize(torch.ones(16), dim=0)
    distance = PerceptualMetric(CLIPureCos(ENCODER, blank))(A, B)
    assert distance.shape == (6,) and distance.isfinite().all()


def test_images_of_another_size_and_other_numbers_of_images_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"looks at \[B, 3, 4, 4\]: resize them"):
        METRIC(images(2, size=8), images(2, size=8))
    with pytest.raises(ValueError, match="6 images cannot be paired with 4"):
        METRIC(A, B[:4])


def test_an_ensemble_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one size, not \[4, 8\]"):
        Ensemble([ConvEncoder(size=4), ConvEncoder(size=8)])
    with pytest.raises(ValueError, match="one size, not none"):
        Ensemble([])
    with pytest.raises(ValueError, match="as many weights above 0"):
        Ensemble([ENCODER], weights=[0.0])
