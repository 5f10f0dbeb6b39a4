"""Randomised smoothing, where the smoothed classifier is known exactly."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from scipy.stats import binom, norm
from torch import Tensor

from modules import noise
from modules.defenses import RandomNoise
from modules.defenses.smoothing import CERTIFY_DRAW, Certificate, RandomizedSmoothing, lower_bound
from modules.encoders.base import ImageEncoder
from modules.zero_shot import ZeroShotHead
from tests.modules.toys import ConvEncoder, head, images

SIGMA, DISTANCES = 0.25, torch.tensor([-0.6, -0.3, -0.1, 0.02, 0.1, 0.25, 0.4, 0.6])


class HalfSpace(ImageEncoder):
    """Two classes with a plane between them: an embedding is (signed distance to it, 1), and its sign decides."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim, self.image_size = 2, 2
        self.normal = torch.nn.functional.normalize(torch.tensor([3.0, -1, 2, 0, 1, -2, 1, 1, -1, 2, 0, 1]), dim=0)

    def encode_image(self, x: Tensor) -> Tensor:
        distance = (x - 0.5).flatten(1) @ self.normal
        return torch.stack([distance, torch.ones_like(distance)], dim=1)


HEAD = ZeroShotHead(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), ["this side", "that side"])


def at(distances: Tensor) -> Tensor:
    """Images [B, 3, 2, 2] at signed distances from the plane."""
    return 0.5 + (distances[:, None] * HalfSpace().normal).view(-1, 3, 2, 2)


def smoothing(draws: int = 32) -> RandomizedSmoothing:
    return RandomizedSmoothing(HalfSpace(), sigma=SIGMA, draws=draws)


@cache
def certificate(n: int = 20_000) -> Certificate:
    with noise.samples(torch.arange(len(DISTANCES)), seed=1):
        return smoothing().certify(at(DISTANCES), HEAD, n=n, batch=4096)


def test_votes_come_as_often_as_the_normal_distribution_says() -> None:
    votes = smoothing(4000).logits(at(DISTANCES), HEAD)[:, 0].floor() / 4000
    expected = torch.as_tensor(norm.cdf(DISTANCES / SIGMA), dtype=torch.float32)
    assert (votes - expected).abs().max() < 4 * 0.5 / 4000**0.5


def test_a_certificate_is_never_more_than_the_truth_and_not_much_less() -> None:
    found, truth = certificate(), DISTANCES.abs()
    assert torch.equal(found.prediction[truth > 0.05], (DISTANCES < 0).long()[truth > 0.05])
    assert (found.radius <= truth).all()
    near = (truth > 0.05) & (truth < 0.5)
    assert (found.radius[near] > 0.9 * truth[near] - 0.01).all()


def test_a_radius_cannot_exceed_what_so_many_looks_can_tell() -> None:
    few = smoothing().certify(at(torch.tensor([50.0])), HEAD, n0=10, n=100, alpha=0.01)
    assert float(few.radius) == pytest.approx(SIGMA * norm.ppf(0.01 ** (1 / 100)), rel=1e-5)


def test_certificates_are_wrong_no_more_often_than_they_say() -> None:
    distance, alpha, images_ = 0.1, 0.1, 400
    x = at(torch.full((images_,), distance))
    with noise.samples(torch.arange(images_), seed=2):
        found = smoothing().certify(x, HEAD, n0=20, n=60, alpha=alpha, batch=4000)
    wrong = int((~found.abstained & ((found.prediction != 0) | (found.radius > distance))).sum())
    assert wrong <= binom.ppf(0.999, images_, alpha)
    assert wrong > 0  # the bound is not so loose that it says nothing


def test_a_vote_too_close_abstains_and_counts_as_wrong() -> None:
    x = at(torch.tensor([0.0, 0.5]))
    found = smoothing().certify(x, HEAD, n=500)
    assert found.abstained.tolist() == [True, False]
    assert found.radius[0] == 0
    assert not found.correct(found.prediction)[0]
    assert found.correct(torch.tensor([0, 0])).tolist() == [False, True]
    assert found.correct(torch.tensor([1, 1])).tolist() == [False, False]
    assert found.correct(torch.tensor([0, 0]), radius=0.49).tolist() == [False, False]


def test_a_certificate_belongs_to_the_sample_and_not_to_the_batch() -> None:
    x, names = at(DISTANCES), torch.arange(len(DISTANCES))
    with noise.samples(names):
        whole = smoothing().certify(x, HEAD, n=300, batch=7)
        with noise.subset(torch.tensor([5, 2])):
            part = smoothing().certify(x[[5, 2]], HEAD, n=300, batch=1000)
    assert torch.equal(part.radius, whole.radius[[5, 2]])
    with noise.samples(names, draw=9):  # whatever draw an attack is at
        assert torch.equal(smoothing().certify(x, HEAD, n=300).radius, whole.radius)
    with noise.samples(names, seed=1):
        assert not torch.equal(smoothing().certify(x, HEAD, n=300).radius, whole.radius)


def test_a_random_encoder_inside_keeps_its_own_noise_for_every_sample() -> None:
    x = at(torch.full((6,), 0.1))
    defense = RandomizedSmoothing(RandomNoise(HalfSpace(), eps=0.3), sigma=0.02)
    with noise.samples(torch.arange(6)):
        whole = defense.certify(x, HEAD, n=50, batch=100)
        alone = []
        for i in range(6):
            with noise.subset(torch.tensor([i])):
                alone.append(defense.certify(x[[i]], HEAD, n=50).radius)
    assert torch.equal(torch.cat(alone), whole.radius) and len(whole.radius.unique()) > 1


def test_its_noise_is_its_own() -> None:
    x = at(DISTANCES)
    seen: list[Tensor] = []

    class Spy(HalfSpace):
        def encode_image(self, x: Tensor) -> Tensor:
            seen.append(x)
            return super().encode_image(x)

    defense = RandomizedSmoothing(Spy(), sigma=SIGMA, draws=3)
    with noise.samples(torch.arange(len(x))):
        for draw in (0, 1, 1_000_003):
            with noise.redraw(x, draw):
                defense.encode_image(x)
        defense.certify(x, HEAD, n0=3, n=3)
    looks = torch.cat(seen)
    assert len(looks) == 15 * len(x) and torch.pdist(looks.flatten(1)).min() > 0
    assert CERTIFY_DRAW not in (0, 1_000_003)


def test_pixels_beyond_the_box_are_shown_to_the_encoder() -> None:
    looks = [z[:, 0] for z in RandomizedSmoothing(HalfSpace(), sigma=2.0, draws=50).embeddings(at(torch.zeros(1)))]
    assert torch.cat(looks).abs().max() > float(HalfSpace().normal.abs().sum()) * 0.5  # no image of the box gets there


@pytest.mark.parametrize(
    ("hits", "looks", "alpha"), [(90, 100, 0.001), (1, 10, 0.05), (10, 10, 0.05), (600, 1000, 0.01)]
)
def test_the_bound_is_where_the_hits_become_unlikely(hits: int, looks: int, alpha: float) -> None:
    bound = float(lower_bound(torch.tensor([hits]), looks, alpha))
    assert binom.sf(hits - 1, looks, bound) == pytest.approx(alpha)  # so many hits or more, were this the truth


def test_no_hit_bounds_nothing() -> None:
    assert lower_bound(torch.tensor([0]), 10, 0.05).tolist() == [0.0]


def test_equal_votes_are_told_apart_by_the_mean_and_others_never() -> None:
    x, classify = images(64), head(16)
    defense = RandomizedSmoothing(ConvEncoder().freeze(), sigma=0.5, draws=2)
    logits = defense.logits(x, classify)
    votes = logits.floor()
    fractions = logits - votes
    assert votes.sum(dim=1).eq(2).all() and fractions.max() <= 0.5
    tied = votes.max(dim=1).values == 1
    assert tied.any() and (~tied).any()
    assert (votes.gather(1, logits.argmax(dim=1, keepdim=True)).squeeze(1) == votes.max(dim=1).values).all()


def test_the_soft_vote_is_the_logarithm_of_the_mean_probability_and_has_a_slope() -> None:
    x, classify = images(4).requires_grad_(), head(16)
    defense = RandomizedSmoothing(ConvEncoder().freeze(), sigma=0.1, draws=6)
    soft = defense.differentiable().logits(x, classify)
    mean = torch.stack([classify(z).softmax(dim=1) for z in defense.embeddings(x)]).mean(dim=0)
    assert torch.allclose(soft, mean.log(), atol=1e-5)
    (grad,) = torch.autograd.grad(soft[:, 0].sum(), x)
    assert grad.flatten(1).norm(dim=1).min() > 1e-3
    assert getattr(defense.differentiable(), "faithful", True) is False


def test_contradictory_settings_are_named() -> None:
    with pytest.raises(ValueError, match="sigma > 0"):
        RandomizedSmoothing(HalfSpace(), sigma=0.0)
    with pytest.raises(ValueError, match=r"alpha in \(0, 1\)"):
        smoothing().certify(at(DISTANCES), HEAD, alpha=1.0)
