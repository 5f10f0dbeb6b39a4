"""FAB where the smallest perturbation is known, and what it asks of a search."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules.attacks import FAB
from modules.attacks.base import Search
from modules.perturb import Threat
from modules.perturb.losses import margin
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, LinearEncoder, classifier, images

X = 0.4 + 0.2 * images(12, 4)  # away from the box
DUAL = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}
every_norm = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])


def linear(x: Tensor) -> Tensor:
    """[B, 5] logits linear in the pixels, scaled as a CLIP's."""
    return 20 * LinearEncoder(dim=5).encode_image(x - 0.5)


def smallest_distance(x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """[B] distance to the nearest boundary of ``linear``, far from the box: lead over the lead's slope."""
    logits, weight = linear(x).detach(), 20 * LinearEncoder(dim=5).weight.detach()
    distances = []
    for k in range(5):
        slope = torch.linalg.vector_norm(weight[k] - weight[y], ord=DUAL[norm], dim=1)
        distances.append(((logits.gather(1, y[:, None])[:, 0] - logits[:, k]) / slope).masked_fill(y == k, torch.inf))
    return torch.stack(distances).amin(dim=0)


@every_norm
@pytest.mark.parametrize("targets", [0, 4])
def test_on_a_linear_model_it_succeeds_exactly_beyond_the_nearest_boundary(norm: Norm, targets: int) -> None:
    y = linear(X).argmax(dim=1)
    distances = smallest_distance(X, y, norm)
    for share, falls in ((0.98, False), (1.06, True)):
        for x, label, distance in zip(X[:6], y, distances, strict=False):
            attack = FAB(Threat(norm, share * float(distance)), steps=12, targets=targets)
            x_adv = attack(linear, x[None], label[None])
            assert bool(linear(x_adv).argmax(dim=1) != label) == falls


@every_norm
def test_intermediate_points_in_the_ball_are_not_needed(norm: Norm) -> None:
    """The points it ends with are the smallest it found, close to the boundary from beyond."""
    y = linear(X).argmax(dim=1)
    attack, search = FAB(Threat(norm, 5.0), steps=30), Search(linear, X, y, Threat(norm, 5.0))
    search.begin()
    state = attack._start(search, torch.full((len(X),), torch.inf), 0)
    attack._approach(search, state)
    assert (margin(linear(state.closest), y) > 0).all()
    assert torch.allclose(state.distance, smallest_distance(X, y, norm), rtol=0.06)
    assert (state.distance >= smallest_distance(X, y, norm) * 0.999).all()


@every_norm
def test_with_eps_zero_nothing_moves(norm: Norm) -> None:
    assert torch.equal(FAB(Threat(norm, 0.0))(linear, X, linear(X).argmax(dim=1)), X)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("targets", [0, 9])
def test_few_classes_are_enough(classes: int, targets: int) -> None:
    model, x = classifier(ConvEncoder(), classes=classes), images(6)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
        assert (model(FAB(Threat("linf", 0.2), steps=10, targets=targets)(model, x, y)).argmax(dim=1) != y).all()


def test_targets_are_ranked_by_the_logits_and_never_the_label() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [3.0, 1.0, 2.0, 0.0]])
    aims = FAB(Threat(), targets=9).label_losses(logits, torch.tensor([0, 2]))
    assert torch.stack([labels[1] for _, labels in aims]).T.tolist() == [[2, 1, 3], [0, 1, 3]]
    loss, labels = aims[0]
    assert loss(logits, *labels).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(("targets", "passes"), [(0, 4), (2, 1)])
def test_a_step_costs_a_backward_pass_per_rival_or_one_per_target(targets: int, passes: int) -> None:
    backward: list[int] = []

    def counting(x: Tensor) -> Tensor:
        if x.requires_grad:
            x = x * 1.0
            x.register_hook(lambda grad: backward.append(1))
        return linear(x)

    FAB(Threat("l2", 1e-3), steps=3, targets=targets)(counting, X, linear(X).argmax(dim=1))
    assert len(backward) == passes * 3 * max(targets, 1)


def test_restarts_begin_at_random_within_half_of_what_was_found() -> None:
    y, threat = linear(X).argmax(dim=1), Threat("l2", 0.5)
    search = Search(linear, X, y, threat)
    search.begin()
    found = torch.linspace(0.1, 1.2, len(X))
    attack = FAB(threat, restarts=3)
    first, second, third = (attack._start(search, found, restart).point for restart in range(3))
    assert torch.equal(first, X)
    assert not torch.allclose(second, third)
    away = threat.distance(X, second)
    assert (away <= 0.5 * found.clamp_max(0.5) + 1e-6).all() and (away > 0.3 * found.clamp_max(0.5)).all()


def test_a_judge_decides_over_the_closest_points() -> None:
    y, threat = linear(X).argmax(dim=1), Threat("l2", 2.0)
    search = Search(linear, X, y, threat, judge=linear, judge_every=10**6)
    FAB(threat, steps=20).on(search)
    assert (search.margin > 0).all()


def test_a_penalty_it_cannot_see_is_noted() -> None:
    y, threat = linear(X).argmax(dim=1), Threat("l2", 0.1)
    search = Search(linear, X, y, threat, penalty=lambda x: x.flatten(1).sum(dim=1))
    FAB(threat, steps=1).on(search)
    assert any("penalty" in note for note in search.notes)


def test_a_loss_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="use APGD"):
        FAB(Threat()).perturb(lambda x: x.flatten(1).sum(dim=1), X)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"steps": 0}, "steps=0"),
        ({"targets": -1}, "targets=-1"),
        ({"beta": 1.0}, "beta=1.0"),
        ({"eta": 0.5}, "eta=0.5"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        FAB(Threat(), **settings)  # pyright: ignore[reportArgumentType]
