"""Square against the reference authors' package, at the same number of queries.

The reference never places a square on the last row or column, which is much of a small image.  The classifiers here
do not look at those, so that both attacks have the same chances; elsewhere ours is the stronger.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.attacks import Square
from modules.attacks.base import Classifier
from modules.perturb import Threat
from modules.perturb.threat import Norm
from tests.modules.attacks.victims import predictions, victim
from tests.modules.toys import images

COUNT, QUERIES, SEEN, SEEDS = 400, 500, 10, (0, 1)


def reference_robust(model: Classifier, threat: Threat, x: Tensor, y: Tensor, seed: int) -> float:
    """Share of the images that the reference attack leaves right."""
    package = pytest.importorskip("pyautoattack.square", reason="pyautoattack is a test extra")
    attack = package.SquareAttack(
        model,
        norm={"linf": "Linf", "l2": "L2", "l1": "L1"}[threat.norm],
        eps=threat.eps,
        n_queries=QUERIES,
        resc_schedule=False,
        seed=seed,
        device="cpu",
    )
    with torch.random.fork_rng(devices=[]):  # the reference seeds the global generator
        return (predictions(model, attack.perturb(x.clone(), y)) == y).float().mean().item()


def robust(model: Classifier, threat: Threat, x: Tensor, y: Tensor, seed: int) -> float:
    with noise.samples(noise.keys_of([f"{i}" for i in range(len(x))]), seed=seed):
        x_adv = Square(threat, queries=QUERIES)(model, x, y, compact=True)
    return (predictions(model, x_adv) == y).float().mean().item()


def slow(*row: object) -> object:
    return pytest.param(*row, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "norm", "eps"),
    [
        ("trained", "linf", 0.012),
        slow("trained", "l2", 0.2),
        slow("trained", "l1", 1.5),
        slow("random", "linf", 0.03),
        slow("random", "l2", 0.5),
        slow("wide", "linf", 0.15),
        slow("wide", "l2", 2.0),
    ],
)
def test_as_many_images_stand_as_after_the_reference(name: str, norm: Norm, eps: float) -> None:
    model, x, threat = victim(name, SEEN), images(COUNT, SEEN + 1, seed=6), Threat(norm, eps)

    def seeing_most(x: Tensor) -> Tensor:
        return model(x[..., :SEEN, :SEEN])

    y = predictions(seeing_most, x)
    theirs = sum(reference_robust(seeing_most, threat, x, y, seed) for seed in SEEDS) / len(SEEDS)
    ours = sum(robust(seeing_most, threat, x, y, seed) for seed in SEEDS) / len(SEEDS)
    assert 0.15 < theirs < 0.85, "the radius must neither break all images nor none"
    # A run's standard error is about one point, and more for theirs: its batch shares every draw.
    assert theirs - 0.08 <= ours <= theirs + 0.015


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.012), ("l2", 0.11)])
@pytest.mark.parametrize("name", ["random", "wide", "trained"])
def test_where_the_last_row_counts_fewer_images_stand(name: str, norm: Norm, eps: float) -> None:
    model, x, threat = victim(name), images(COUNT, seed=6), Threat(norm, eps)
    y = predictions(model, x)
    assert robust(model, threat, x, y, 0) <= reference_robust(model, threat, x, y, 0) + 0.01
