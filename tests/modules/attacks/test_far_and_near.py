"""Attacks that leave the usual path: strides across the ball, from outside into it, and points that follow nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modules import noise
from modules.attacks.apgd import APGD
from modules.attacks.base import Attack, Search
from modules.attacks.ddn import DDN
from modules.attacks.jump import Jump
from modules.attacks.random_points import RandomPoints
from modules.perturb.threat import Norm, Threat
from tests.modules.attacks.victims import predictions, victim
from tests.modules.toys import images

X = images(24, seed=5)
NORMS: list[tuple[Norm, float]] = [("linf", 4 / 255), ("l2", 0.3), ("l1", 3.0)]
MAKE = {
    "ddn": lambda threat: DDN(threat, steps=80),
    "jump": lambda threat: Jump(threat, steps=3, targets=3, restarts=3, momentum=0.5),
    "noise": lambda threat: RandomPoints(threat, points=4),
    "far": lambda threat: APGD(threat, loss="margin", steps=12, larger_eps=True),
}


def model() -> nn.Module:
    return victim("trained").eval().requires_grad_(False)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(("norm", "eps"), NORMS)
def test_points_lie_in_ball_and_box_and_are_the_same_in_any_batch(name: str, norm: Norm, eps: float) -> None:
    net, threat = model(), Threat(norm, eps)
    y, attack = predictions(net, X), MAKE[name](threat)
    keys = noise.keys_of([str(i) for i in range(len(X))])
    with noise.samples(keys):
        whole = attack(net, X, y)
    assert threat.contains(X, whole).all() and (whole != X).flatten(1).any(dim=1).any()
    halves = []
    for half in (slice(0, 12), slice(12, 24)):
        with noise.samples(keys[half]):
            halves.append(attack(net, X[half], y[half]))
    torch.testing.assert_close(torch.cat(halves), whole, atol=1e-4, rtol=0)


class Pocket(nn.Module):
    """Right everywhere but in a shell inside the ball: whoever stays on the ball's surface never sees it."""

    def forward(self, x: Tensor) -> Tensor:
        way = (x - 0.5).flatten(1)
        length = way.norm(dim=1)
        inside = 0.15 - (length - 0.55).abs()  # wrong between 0.4 and 0.7
        outside = length - 3.0  # and far away
        wrong = torch.maximum(inside, outside) + 0.02 * way[:, 0]
        return torch.stack([-wrong, wrong], dim=1)


def test_ddn_finds_what_lies_inside_the_ball() -> None:
    x = torch.full((4, 3, 8, 8), 0.5)
    net, y, threat = Pocket(), torch.zeros(4, dtype=torch.long), Threat("l2", 1.0)
    assert (net(x).argmax(dim=1) == y).all()
    found = DDN(threat, steps=40)(net, x, y)
    assert (net(found).argmax(dim=1) != y).all() and threat.contains(x, found).all()


def test_every_stride_lands_on_a_corner_of_the_ball() -> None:
    threat, net, asked = Threat("linf", 4 / 255), model(), []
    x = X.clamp(0.1, 0.9)

    def listening(points: Tensor) -> Tensor:
        asked.append(points.detach().clone())
        return net(points)

    Jump(threat, steps=4, targets=1, restarts=1)(listening, x, predictions(net, x))
    strides = asked[2:]  # the first two are the image itself
    assert len(strides) == 4
    for points in strides:
        far = ((points - x).abs() > 3.99 / 255).float().mean()
        assert far > 0.99


def test_a_guide_is_where_the_third_run_starts() -> None:
    asked: list[Tensor] = []

    def listening(x: Tensor) -> Tensor:
        asked.append(x.detach().clone())
        return model()(x)

    threat, y = Threat("linf", 4 / 255), predictions(model(), X[:2])
    classes = model()(X[:2]).shape[1]
    guides = torch.full((classes, 3, 8, 8), torch.nan)
    target = int(model()(X[:1]).scatter(1, y[:1, None], -torch.inf).argmax())
    guides[target] = 1.0
    attack = Jump(threat, steps=1, targets=1, restarts=3)
    attack.on(Search(listening, X[:1], y[:1], threat, guides=guides))
    assert any(torch.equal(point, (X[:1] + 4 / 255).clamp(0, 1)) for point in asked)


def test_a_control_follows_nothing_and_keeps_the_worst_point_it_met() -> None:
    net, threat = model(), Threat("linf", 8 / 255)
    y = predictions(net, X)
    attack: Attack = RandomPoints(threat, points=10)
    assert attack.blind and attack.gradient_free
    values: list[Tensor] = []

    def noted(x: Tensor) -> Tensor:
        logits = net(x)
        true = logits.gather(1, y[:, None]).squeeze(1)
        values.append(logits.scatter(1, y[:, None], -torch.inf).amax(dim=1) - true)
        return logits

    found = attack(noted, X, y)
    assert not values[0].requires_grad and len(values) >= 11
    best = torch.stack(values).amax(dim=0)
    noted(found)
    torch.testing.assert_close(values[-1], best)
    with pytest.raises(ValueError, match="points is 0"):
        RandomPoints(threat, points=0)


def test_a_snapped_point_counts_where_the_judge_says_so() -> None:
    threat = Threat("linf", 3.5 / 255)  # whose corners are no pictures
    x = (X * 255).round() / 255

    def grid(points: Tensor) -> Tensor:
        on = ((points * 255 - (points * 255).round()).abs() < 0.01).flatten(1).all(dim=1)
        moved = (points != x).flatten(1).any(dim=1)
        return torch.stack([torch.zeros(len(points)), torch.where(on & moved, 1.0, -1.0)], dim=1)

    y = torch.zeros(len(x), dtype=torch.long)
    attack = APGD(threat, loss="margin", steps=5)
    look = victim("trained").eval()
    for snap, fallen in ((None, 0), (threat.rounded, len(x))):
        search = Search(lambda p: look(p)[:, :2], x, y, threat, judge=grid, snap=snap)
        assert int((grid(attack.on(search)).argmax(dim=1) != y).sum()) == fallen


def test_losses_that_heed_no_scale_are_told_from_cross_entropy() -> None:
    threat = Threat("linf", 4 / 255)
    assert not APGD(threat, loss="ce").scale_free
    assert APGD(threat, loss="dlr").scale_free and Jump(threat).scale_free
