"""Any model that somebody hands in, bare or behind any defence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eval.card import read_card
from eval.score import score
from modules.defenses import RandomNoise
from modules.perturb import Threat
from modules.perturb.threat import Norm
from tests.eval import gallery
from tests.eval.toy_world import THREAT, Reader, toy_task
from tests.modules.attacks.victims import VICTIMS, predictions, victim
from tests.modules.toys import images

SMALL = (
    "attacks={apgd_ce: {name: apgd, steps: 20}, apgd_t: {name: apgd, loss: dlr_targeted, steps: 20, targets: 3}, "
    "fab_t: {name: fab, steps: 20, targets: 3}, square: {queries: 100, views: [query]}}",
    "strength={limit: 20, steps: [1, 20], attack: {name: apgd, steps: 20}}",
    "stop_width=0",
    "fewer=0",
)
READER = Reader("whisper").freeze()
X = torch.stack([sample.x for sample in map(toy_task(READER).source.__getitem__, range(120))])
Y = torch.arange(120) % 6


def read(encoder: Reader) -> nn.Module:
    """The reader with its head, as one classifier."""
    return toy_task(encoder).classifier(encoder)


def test_a_plain_function_is_enough() -> None:
    classifier = read(READER)
    card = score(lambda x: classifier(x), X, Y, threat=THREAT, settings=SMALL)
    assert card.clean.value >= 0.95 and card.headline.value <= 0.2
    assert card.headline.n == 120 and card.defense == "none"


def test_a_robust_one_is_believed_and_a_planted_defence_is_not(tmp_path: Path) -> None:
    loud = Reader("loud").freeze()
    assert score(read(loud), X, Y, threat=THREAT, settings=SMALL).believable
    task = toy_task(READER)
    card = score(
        READER, X, Y, threat=THREAT, defense=gallery.DetachedPurifier, head=task.head, settings=SMALL, out=tmp_path
    )
    assert card.defense == "DetachedPurifier" and not card.believable
    assert card.headline.value <= card.static["worst"].value + 0.05
    assert read_card(tmp_path) == card


def test_a_defence_around_a_classifiers_logits_works_too() -> None:
    card = score(read(READER), X, Y, threat=THREAT, defense=lambda e: RandomNoise(e, eps=0.01), settings=SMALL)
    assert card.defense == "RandomNoise" and card.mean_draw is not None


def test_models_of_two_and_three_classes_are_judged_and_what_was_replaced_is_said() -> None:
    for classes in (2, 3):
        layer = nn.Linear(192, classes, bias=False)
        linear = nn.Sequential(nn.Flatten(), layer)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(classes, 192, generator=torch.Generator().manual_seed(0)))
            y = linear(X).argmax(dim=1)
        card = score(linear, X, y, threat=Threat("linf", 0.02), settings=SMALL)
        assert card.headline.value < card.clean.value == 1
        assert any("too few for DLR" in note["text"] for note in card.notes)


@pytest.mark.parametrize(
    ("model", "x", "said"),
    [
        (lambda x: x.mean(dim=(1, 2, 3))[:, None], X, "has 1 class"),
        (lambda x: x, X, r"returned \[1, 3, 8, 8\] for one image instead of logits"),
        (lambda x: x.flatten(1) / 0, X, "not finite"),
        (lambda x: x.flatten(1), 2 * X, r"floats in \[0, 1\]"),
        (lambda x: x.flatten(1), X[:5], "needs a label"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(model: object, x: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        score(model, x, Y, threat=THREAT, settings=SMALL)  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(caught.value)


def outside(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> float:
    """Robust accuracy that the reference package's standard version leaves."""
    from pyautoattack import AutoAttack

    norm: Any = {"linf": "Linf", "l2": "L2"}[threat.norm]
    adversary = AutoAttack(model, norm=norm, eps=threat.eps, version="standard", seed=0)
    for member in (adversary.apgd_targeted, adversary.fab):  # it crashes on more targets than wrong classes
        member.n_target_classes = min(9, model(x[:1]).shape[1] - 1)
    x_adv, _ = adversary.run_standard_evaluation(x, y, batch_size=len(x))
    return float((predictions(model, x_adv) == y).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", VICTIMS)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 3 / 255), ("l2", 0.2)])
def test_no_outside_library_finds_more_than_half_a_point_below_the_headline(name: str, norm: Norm, eps: float) -> None:
    model, x = victim(name).eval(), images(200, seed=31)
    y = predictions(model, x)
    card = score(model, x, y, threat=Threat(norm, eps), settings=["stop_width=0", "strength={}"])
    assert card.headline.n == 200 and 0.05 < card.headline.value < 0.95
    assert card.headline.value <= outside(model, x, y, Threat(norm, eps)) + 0.005
