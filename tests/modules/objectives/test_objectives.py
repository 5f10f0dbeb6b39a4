"""FARE and TeCoA against hand-written losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.encoders.base import FrozenReference
from modules.objectives import FARE, Objective, TeCoA
from tests.modules.toys import ConvEncoder, head, images


@dataclass
class Batch:
    x: Tensor
    y: Tensor
    key: tuple[str, ...]


BATCH = Batch(images(6), torch.tensor([0, 1, 2, 3, 4, 5]), tuple("abcdef"))
STUDENT, ORIGINAL = ConvEncoder(seed=1), FrozenReference(ConvEncoder(seed=0))


def test_fare_is_the_squared_distance_to_the_original_clean_embedding_summed_over_dimensions() -> None:
    x_adv = images(6, seed=5)
    by_hand = (STUDENT(x_adv) - ORIGINAL.encoder(BATCH.x)).pow(2).sum(1)
    objective: Objective = FARE()
    assert torch.allclose(objective.outer(STUDENT, ORIGINAL, BATCH, x_adv), by_hand)
    assert torch.allclose(objective.inner(STUDENT, ORIGINAL, BATCH)(x_adv), by_hand)


def test_fare_looks_at_no_label() -> None:
    other = Batch(BATCH.x, BATCH.y.flip(0), BATCH.key)
    assert torch.equal(FARE().outer(STUDENT, ORIGINAL, BATCH, BATCH.x), FARE().outer(STUDENT, ORIGINAL, other, BATCH.x))


def test_fare_of_the_original_at_the_clean_image_is_zero_with_zero_gradient() -> None:
    leaf = BATCH.x.clone().requires_grad_()
    value = FARE().inner(ORIGINAL.encoder, ORIGINAL, BATCH)(leaf)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    assert value.abs().max() < 1e-9 and grad.abs().max() < 1e-5


def test_tecoa_is_the_cross_entropy_of_scaled_cosines() -> None:
    zero_shot, x_adv = head(16, scale=100.0), images(6, seed=5)
    cosines = F.normalize(STUDENT(x_adv), dim=1) @ zero_shot.weights.T
    by_hand = F.cross_entropy(100 * cosines, BATCH.y, reduction="none")
    objective: Objective = TeCoA(zero_shot)
    assert torch.allclose(objective.outer(STUDENT, ORIGINAL, BATCH, x_adv), by_hand, atol=1e-5)
    assert torch.allclose(objective.inner(STUDENT, ORIGINAL, BATCH)(x_adv), by_hand, atol=1e-5)


def test_an_objective_says_whether_it_asks_the_original_encoder() -> None:
    class Asked(ConvEncoder):
        looks = 0

        def encode_image(self, x: Tensor) -> Tensor:
            self.looks += 1
            return super().encode_image(x)

    for objective in (FARE(), TeCoA(head(16))):
        asked = Asked()
        reference = FrozenReference(asked)
        objective.inner(STUDENT, reference, BATCH)(BATCH.x)
        objective.outer(STUDENT, reference, BATCH, BATCH.x)
        assert asked.looks == objective.needs_reference, "once a step, or never"
