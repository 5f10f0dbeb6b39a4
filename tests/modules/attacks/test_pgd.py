from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules.attacks.pgd import PGD
from modules.perturb import Threat
from modules.perturb.losses import margin
from modules.perturb.threat import Norm
from tests.modules.attacks.linear import Linear
from tests.modules.toys import ConvEncoder, classifier, images

TWO = Linear(2)
MODEL, X = classifier(ConvEncoder()), images(6)


def gradient(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(margin(MODEL(x), y).sum(), x)[0]


def test_margin_pgd_takes_the_steps_that_a_linear_model_dictates() -> None:
    x_adv = PGD(Threat("linf", 0.05), steps=3, step_size=0.01, random_start=False, loss="margin")(TWO, TWO.x, TWO.y)
    toward = TWO.weight[1 - TWO.y] - TWO.weight[TWO.y]
    assert torch.allclose(x_adv, TWO.x + 0.03 * toward.sign().view_as(TWO.x), atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_margin_pgd_succeeds_just_beyond_the_boundary_and_never_before(norm: Norm) -> None:
    nearest = TWO.nearest(norm)
    for factor, falls in ((1.02, True), (0.99, False)):
        for image, eps in enumerate((factor * nearest).tolist()):
            attack = PGD(Threat(norm, eps), steps=60, step_size=eps / 10, loss="margin")
            x_adv = attack(TWO, TWO.x[image : image + 1], TWO.y[image : image + 1])
            assert bool(TWO(x_adv).argmax() != TWO.y[image]) is falls


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.6)])
@pytest.mark.parametrize("momentum", [0.0, 1.0, 0.75])
def test_steps_with_momentum_by_hand(norm: Norm, eps: float, momentum: float) -> None:
    threat, y = Threat(norm, eps), torch.arange(6)
    point, velocity = X, torch.zeros_like(X)
    for _ in range(5):
        grad = gradient(point, y)
        velocity = momentum * velocity + grad / grad.flatten(1).norm(p=1, dim=1).view(-1, 1, 1, 1)
        unit = velocity.sign() if norm == "linf" else velocity / velocity.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        point = threat.confine(X, point + eps / 4 * unit)
    attack = PGD(threat, steps=5, step_size=eps / 4, random_start=False, keep="last", momentum=momentum)
    assert torch.allclose(attack.perturb(lambda x: margin(MODEL(x), y), X), point, atol=1e-5)


def test_momentum_of_one_run_does_not_reach_the_next() -> None:
    attack, y = PGD(Threat(), steps=3, momentum=0.9), torch.zeros(6, dtype=torch.long)
    assert torch.equal(attack(MODEL, X, y), attack(MODEL, X, y))


def test_negative_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum is -1"):
        PGD(Threat(), momentum=-1)
