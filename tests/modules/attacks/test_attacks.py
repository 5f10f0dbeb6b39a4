"""What holds for every attack: a new one is a row in the table."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.attacks import APGD, FAB, PGD, Attack, AutoAttack, Square
from modules.attacks.base import Search
from modules.attacks.cw import CW
from modules.attacks.embedding import EmbeddingAttack
from modules.attacks.hard_label import RayS
from modules.perturb import Threat
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, LinearEncoder, classifier, images

ATTACKS: dict[str, Callable[[Threat], Attack]] = {
    "pgd": lambda t: PGD(t, steps=5, step_size=t.eps / 3),
    "pgd_last": lambda t: PGD(t, steps=5, step_size=t.eps / 3, keep="last", loss="margin"),
    "pgd_restarts": lambda t: PGD(t, steps=3, step_size=t.eps / 2, restarts=3),
    "apgd_ce": lambda t: APGD(t, steps=8),
    "apgd_dlr": lambda t: APGD(t, steps=8, loss="dlr"),
    "apgd_targeted": lambda t: APGD(t, steps=5, loss="dlr_targeted", targets=2),
    "fab": lambda t: FAB(t, steps=8, restarts=2),
    "fab_targeted": lambda t: FAB(t, steps=8, targets=2),
    "square": lambda t: Square(t, queries=150, restarts=2),
    "autoattack": lambda t: AutoAttack(t, steps=5, queries=10, targets=2),
    "pgd_momentum": lambda t: PGD(t, steps=5, step_size=t.eps / 3, momentum=0.75, loss="margin"),
    "cw": lambda t: CW(t, steps=12, searches=4),
    "rays": lambda t: RayS(t, queries=200),
    "embedding": lambda t: EmbeddingAttack(t, steps=8),
}
THREATS: list[tuple[Norm, float]] = [("linf", 0.02), ("l2", 0.3), ("l1", 1.5)]
MODEL = classifier(ConvEncoder())
X = images(10)
with torch.no_grad():
    Y = MODEL(X).argmax(dim=1)

every_attack = pytest.mark.parametrize("build", ATTACKS.values(), ids=ATTACKS.keys())
every_pair = pytest.mark.parametrize(
    ("build", "norm", "eps"),
    [
        pytest.param(build, norm, eps, id=f"{name}-{norm}")
        for name, build in ATTACKS.items()
        for norm, eps in THREATS
        if (name, norm) != ("cw", "l1")  # which it refuses
    ],
)


def fooled(x: Tensor, y: Tensor = Y) -> Tensor:
    with torch.no_grad():
        return MODEL(x).argmax(dim=1) != y


@every_pair
def test_an_attack_never_leaves_ball_and_box(build: Callable[..., Attack], norm: Norm, eps: float) -> None:
    threat = Threat(norm, eps)
    x = torch.cat([X, X.round()])  # corners of the box too
    x_adv = build(threat)(MODEL, x, torch.cat([Y, Y]))
    assert threat.contains(x, x_adv).all()
    assert torch.isfinite(x_adv).all()


@every_attack
def test_with_eps_zero_nothing_moves(build: Callable[..., Attack]) -> None:
    attack = PGD(Threat("linf", 0.0), steps=2) if build is ATTACKS["pgd"] else None
    attack = attack or APGD(Threat("linf", 0.0), steps=2)
    assert torch.equal(attack(MODEL, X, Y), X)
    assert torch.equal(attack.perturb(lambda v: v.flatten(1).sum(1), X), X)


@every_pair
def test_the_result_is_at_least_as_wrong_as_the_image(build: Callable[..., Attack], norm: Norm, eps: float) -> None:
    x_adv = build(Threat(norm, eps))(MODEL, X, Y)
    with torch.no_grad():
        assert (margin(MODEL(x_adv), Y) >= margin(MODEL(X), Y) - 1e-5).all()


@every_attack
def test_an_attack_is_the_same_at_any_batch_size_and_order(build: Callable[..., Attack]) -> None:
    attack, keys = build(Threat("linf", 0.03)), noise.keys_of([f"{i}" for i in range(10)])
    with noise.samples(keys):
        whole = attack(MODEL, X, Y)
    order = torch.tensor([7, 2, 9])
    with noise.samples(keys[order]):
        part = attack(MODEL, X[order], Y[order])
    assert torch.allclose(part, whole[order], atol=1e-6)


@every_attack
def test_an_attack_finds_what_a_random_search_does_not(build: Callable[..., Attack]) -> None:
    threat = Threat("linf", 0.08)
    by_attack = fooled(build(threat)(MODEL, X, Y)).sum()
    by_chance = fooled(threat.confine(X, X + threat.sample_far(X))).sum()
    assert by_attack > by_chance


@every_attack
def test_leaving_out_fallen_images_changes_no_verdict(build: Callable[..., Attack]) -> None:
    attack = build(Threat("linf", 0.06))
    assert torch.equal(fooled(attack(MODEL, X, Y)), fooled(attack(MODEL, X, Y, compact=True)))


@every_attack
def test_global_random_state_is_not_touched(build: Callable[..., Attack]) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    build(Threat("linf", 0.03))(MODEL, X, Y)
    assert torch.equal(before, torch.random.get_rng_state())


def test_all_images_may_fall_at_once() -> None:
    attack = APGD(Threat("linf", 0.5), steps=10, loss="dlr_targeted", targets=3)
    assert fooled(attack(MODEL, X, Y, compact=True)).all()


def test_on_a_linear_model_the_worst_linf_point_is_the_sign_of_the_weights() -> None:
    encoder = LinearEncoder(dim=2)
    x = torch.full((4, 3, 4, 4), 0.5)
    ascended: Loss = lambda v: encoder.encode_image(v)[:, 0]  # noqa: E731
    by_hand = x + 0.1 * encoder.weight[0].detach().sign().view(1, 3, 4, 4)
    for attack in (
        PGD(Threat("linf", 0.1), steps=30, step_size=0.02),
        APGD(Threat("linf", 0.1), steps=30),
    ):
        assert torch.allclose(attack.perturb(ascended, x), by_hand, atol=1e-5)


def test_on_a_linear_model_the_worst_l2_point_follows_the_weights() -> None:
    encoder = LinearEncoder(dim=2)
    x = torch.full((4, 3, 4, 4), 0.5)
    w = encoder.weight[0].detach()
    by_hand = (x.flatten(1) + 0.2 * w / w.norm()).view_as(x)
    ascended: Loss = lambda v: encoder.encode_image(v)[:, 0]  # noqa: E731
    for attack in (
        PGD(Threat("l2", 0.2), steps=40, step_size=0.05),
        APGD(Threat("l2", 0.2), steps=60),
    ):
        assert torch.allclose(attack.perturb(ascended, x), by_hand, atol=2e-3)


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_more_steps_never_lower_the_best_loss(steps: int) -> None:
    encoder, threat = ConvEncoder(), Threat("linf", 0.03)
    ascended: Loss = lambda v: encoder.encode_image(v).square().sum(1)  # noqa: E731
    short = PGD(threat, steps=steps, step_size=0.01).perturb(ascended, X)
    longer = PGD(threat, steps=2 * steps, step_size=0.01).perturb(ascended, X)
    with torch.no_grad():
        assert (ascended(longer) >= ascended(short) - 1e-5).all()


def test_averaging_over_draws_uses_fresh_noise_and_the_mean_loss() -> None:
    seen: list[Tensor] = []

    def noisy(x: Tensor) -> Tensor:
        drawn = noise.normal(x, "defence", (6,))
        seen.append(drawn)
        return MODEL(x) + drawn

    search = Search(noisy, X, Y, Threat(), draws=3, compact=False)
    value = search(X)
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    by_hand = torch.stack([margin(MODEL(X) + drawn, Y) for drawn in seen]).mean(dim=0)
    assert torch.allclose(value, by_hand, atol=1e-5)
    search(X)
    assert not torch.equal(seen[0], seen[3])


def test_a_search_does_not_remember_points_outside_the_ball() -> None:
    search = Search(MODEL, X, Y, Threat("linf", 0.01), draws=1, compact=False)
    search(X)
    kept = search.margin.clone()
    search(torch.rand_like(X))  # far outside, and surely wrong somewhere
    assert torch.equal(search.margin, kept) and torch.equal(search.worst, X)


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        APGD(Threat(), steps=2)(lambda x: MODEL(x) * float("nan"), X, Y)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: PGD(Threat(), steps=-1), "steps=-1"),
        (lambda: PGD(Threat(), step_size=0.0), "step_size=0.0"),
        (lambda: APGD(Threat(), restarts=0), "restarts is 0"),
        (lambda: APGD(Threat(), steps=0), "at least one step"),
    ],
)
def test_settings_out_of_range_are_named(wrong: Callable[[], Attack], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        wrong()
