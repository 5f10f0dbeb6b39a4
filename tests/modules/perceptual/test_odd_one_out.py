from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.attacks import APGD
from modules.encoders.base import ImageEncoder
from modules.perceptual.choice import Target, threat_of
from modules.perceptual.odd_one_out import OddOneOut
from modules.perturb.threat import Threat
from tests.modules.toys import ConvEncoder, images


class Mean(ImageEncoder):
    """Two numbers of an image: the mean of its first channel and of its second."""

    embedding_dim, image_size = 2, 4

    def encode_image(self, x: Tensor) -> Tensor:
        return x[:, :2].mean(dim=(2, 3))


def flat(a: float, b: float) -> Tensor:
    return torch.tensor([a, b, 0.0])[:, None, None].expand(3, 4, 4)


def test_the_one_outside_the_most_similar_pair_is_the_odd_one_and_of_equals_the_first() -> None:
    near, nearer, far = flat(1, 0), flat(0.9, 0.1), flat(0, 1)
    orders = [(far, near, nearer), (near, far, nearer), (near, nearer, far), (near, near, near)]
    question = OddOneOut(Mean(), torch.stack([torch.stack(order) for order in orders]))
    assert question(question.pixels).argmax(dim=1).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("target", ["reference", "alternatives", "all"])
def test_an_attack_changes_the_answer_inside_the_ball_of_each_picture(target: Target) -> None:
    x = images(8)
    triplets, threat = (
        torch.stack([x, (x + 0.02).clamp(0, 1), x.flip(0)], dim=1),
        threat_of(target, Threat("linf", 0.1)),
    )
    with noise.samples(noise.keys_of([str(i) for i in range(8)])):
        question = OddOneOut(ConvEncoder().freeze(), triplets, target=target)
        y = question(question.pixels).argmax(dim=1)
        x_adv = APGD(threat, loss="margin", steps=15)(question, question.pixels, y)
    assert threat.contains(question.pixels, x_adv).all()
    assert (question(x_adv).argmax(dim=1) != y).any()
    few = torch.tensor([2, 5])
    assert isinstance(question.of(few), OddOneOut)
    assert torch.allclose(question.of(few)(x_adv[few]), question(x_adv)[few], atol=1e-6)
