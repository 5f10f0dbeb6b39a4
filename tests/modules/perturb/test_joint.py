from __future__ import annotations

import pytest
import torch

from modules import noise
from modules.attacks import APGD
from modules.perturb.joint import JointThreat, apart, together
from modules.perturb.threat import Norm, Threat
from tests.modules.toys import images

X = images(4).repeat(1, 3, 1, 1) * 0.5 + 0.25
KEYS = torch.arange(4)


def loss(x: torch.Tensor) -> torch.Tensor:
    return (apart(x, 3).square().flatten(1).sum(1)).unflatten(0, (-1, 3)).sum(1)


def test_stacking_and_taking_apart_undo_each_other() -> None:
    assert torch.equal(together(apart(X, 3), 3), X)
    assert torch.equal(apart(X, 3)[1], X[0, 3:6])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_image_has_the_whole_radius_to_itself(norm: Norm) -> None:
    threat = JointThreat(norm, 0.3, images=3)
    x_adv = APGD(threat, steps=8).perturb(loss, X)
    each = Threat(norm, 0.3).distance(apart(X, 3), apart(x_adv, 3))
    assert torch.allclose(each, torch.full((12,), 0.3), atol=1e-4)
    assert threat.contains(X, x_adv).all()


def test_one_image_outside_its_ball_is_seen_whatever_the_others_do() -> None:
    moved = X.clone()
    moved[2, 3:6] += 0.1
    inside = JointThreat("l2", 0.3, images=3).contains(X, moved)
    assert inside.tolist() == [True, True, False, True]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_joint_step_is_each_images_own_step(norm: Norm) -> None:
    grad = torch.randn(X.shape, generator=torch.Generator().manual_seed(0))
    joint, single = JointThreat(norm, 0.3, images=3), Threat(norm, 0.3)
    for got, wanted in [
        (joint.steepest(grad), single.steepest(apart(grad, 3))),
        (joint.project(grad), single.project(apart(grad, 3))),
        (joint.confine(X, X + grad), single.confine(apart(X, 3), apart(X + grad, 3))),
    ]:
        assert torch.equal(apart(got, 3), wanted)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_belong_to_samples_not_to_batches(norm: Norm) -> None:
    threat = JointThreat(norm, 0.3, images=3)
    for draw in (threat.sample, threat.sample_far):
        with noise.samples(KEYS):
            whole = draw(X)
        with noise.samples(KEYS[2:3]):
            alone = draw(X[2:3])
        assert torch.equal(whole[2:3], alone)
        first, second = apart(whole, 3)[:2]
        assert not torch.equal(first, second)


def test_several_images_under_l1_are_refused() -> None:
    with pytest.raises(ValueError, match="choose linf or l2"):
        JointThreat("l1", 1.0, images=2)
