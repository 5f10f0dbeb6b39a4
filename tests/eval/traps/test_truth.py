"""The hand-written attacks keep to ball and box, and find what theory says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eval.traps.case import Case, classifier_of
from eval.traps.catalog import TRAPS
from eval.traps.truth import answers_right, on_grid, points, targeted, true_accuracy, untargeted
from modules.attacks.auto import AutoAttack
from modules.perturb.threat import Threat
from tests.eval.traps.toy_traps import THREAT, TOYS, WORLD, Linear, exact_accuracy

THREATS = [THREAT, Threat("l2", 0.2), Threat("l1", 1.0)]


def far(threat: Threat, x: Tensor, x_adv: Tensor) -> float:
    """The largest distance under the norm, by torch's own norms in double precision."""
    order = {"linf": float("inf"), "l2": 2, "l1": 1}[threat.norm]
    return float((x_adv.double() - x.double()).flatten(1).norm(p=order, dim=1).max())


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.norm)
def test_points_lie_inside_ball_and_box_and_reach_the_exact_accuracy_of_a_linear_model(threat: Threat) -> None:
    case = Case(Linear, threat=threat, world=WORLD, searchable=True)
    x, y = WORLD.test()
    for x_adv in points(case, x, y):
        assert far(threat, x, x_adv) <= threat.eps + 1e-6 * x[0].numel()
        assert x_adv.min() >= 0 and x_adv.max() <= 1
    exact = exact_accuracy(threat)
    assert 0 < exact < 1 and exact <= true_accuracy(case) <= exact + 0.02


def test_a_point_towards_every_class_is_at_least_as_far_over_the_border_as_the_nearest() -> None:
    x, y = WORLD.test()
    model = Linear()
    assert torch.allclose(model(untargeted(model, x, y, THREAT)), model(targeted(model, x, y, THREAT)), atol=0.05)


def test_rounded_points_are_8_bit_images_inside_the_ball() -> None:
    x, _ = WORLD.test()
    threat = Threat("linf", 3.5 / 255)
    stored = on_grid(x, threat.confine(x, x + threat.eps * (2 * torch.rand_like(x) - 1)), threat)
    assert torch.allclose(stored * 255, (stored * 255).round(), atol=1e-4)
    assert far(threat, x, stored) <= 3 / 255 + 1e-6


def test_the_truth_about_a_misleading_gradient_is_that_of_the_model_behind_it() -> None:
    assert true_accuracy(TOYS["turned"].build()) == true_accuracy(TOYS["linear"].build())


def test_each_set_of_points_is_shown_to_a_victim_that_has_seen_no_other() -> None:
    made: list[int] = []

    class Forgetful(Linear):
        def __init__(self) -> None:
            super().__init__()
            made.append(0)

        def forward(self, x: Tensor) -> Tensor:
            made[-1] += 1
            return super().forward(x)

    true_accuracy(Case(Forgetful, [Linear()], world=WORLD, threat=THREAT))
    assert made == [1] * 5  # clean, two attacks, and the same two on the grid


@pytest.mark.parametrize(("alone", "inference"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_victim_is_asked_as_its_users_ask(alone: bool, inference: bool) -> None:
    seen: list[tuple[int, bool, bool]] = []

    class Watched(Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((len(x), torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
            return super().forward(x)

    x, y = WORLD.test()
    answers_right(Case(Watched, world=WORLD, alone=alone, inference=inference), x, y)
    assert set(seen) == {(1 if alone else len(x), False, inference)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutional_robust", "robust_in_l2", "robust_in_l1", "transformer", "two_classes"])
def test_a_hand_written_attack_fools_as_many_images_as_autoattack(name: str) -> None:
    case = TRAPS[name].build()
    x, y = case.world.test()
    model = classifier_of(case)
    x_adv = AutoAttack(case.threat, queries=1000)(model, x, y)
    assert true_accuracy(case) <= float((model(x_adv).argmax(dim=1) == y).float().mean()) + 0.02
