"""AutoAttack: who runs, on which images, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.attacks import APGD, FAB, AutoAttack, Square
from modules.attacks.auto import Version
from modules.attacks.base import Search
from modules.perturb import Threat
from modules.perturb.losses import margin
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, classifier, images

EVERY = ["apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square"]
LINF = Threat("linf", 0.012)
MODEL = classifier(ConvEncoder(seed=4))
X = images(50, seed=6)
with torch.no_grad():
    Y = MODEL(X).argmax(dim=1)


def quick(threat: Threat = LINF, **settings: Any) -> AutoAttack:
    settings = {"steps": 6, "queries": 20} | settings
    return AutoAttack(threat, **settings)


def settings_of(auto: AutoAttack, classes: int = 10) -> dict[str, tuple[int, int]]:
    """Restarts and targets by member."""
    return {n: (m.restarts, getattr(m, "targets", 0)) for n, m in auto.members(classes).items()}


def test_standard_is_the_four_attacks_of_the_paper() -> None:
    auto = AutoAttack(LINF)
    assert settings_of(auto) == {"apgd_ce": (1, 9), "apgd_t": (1, 9), "fab_t": (1, 9), "square": (1, 0)}
    members = auto.members()
    ce, targeted, fab, square = members["apgd_ce"], members["apgd_t"], members["fab_t"], members["square"]
    assert isinstance(ce, APGD) and isinstance(targeted, APGD) and isinstance(fab, FAB) and isinstance(square, Square)
    assert (ce.loss, targeted.loss, square.queries, square.p) == ("ce", "dlr_targeted", 5000, 0.8)
    assert ce.steps == targeted.steps == fab.steps == 100


def test_standard_under_l1_has_five_restarts_five_targets_and_larger_balls() -> None:
    members = AutoAttack(Threat("l1", 12.0)).members()
    assert settings_of(AutoAttack(Threat("l1", 12.0))) == {
        "apgd_ce": (5, 9),
        "apgd_t": (1, 5),
        "fab_t": (1, 9),
        "square": (1, 0),
    }
    assert all(m.larger_eps for m in members.values() if isinstance(m, APGD))


def test_plus_rand_and_custom_have_the_references_restarts() -> None:
    plus = settings_of(AutoAttack(LINF, version="plus"))
    assert list(plus) == ["apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"]
    assert [restarts for restarts, _ in plus.values()] == [5, 5, 5, 1, 1, 1]
    assert plus["fab"][1] == 0 and plus["fab_t"][1] == plus["apgd_t"][1] == 9
    assert settings_of(AutoAttack(LINF, version="rand")) == {"apgd_ce": (1, 9), "apgd_dlr": (1, 9)}
    custom = settings_of(AutoAttack(LINF, version="custom", attacks=["apgd_t", "apgd_ce", "fab"]))
    assert custom == {"apgd_t": (1, 9), "apgd_ce": (5, 9), "fab": (5, 0)}
    assert list(custom) == ["apgd_t", "apgd_ce", "fab"]


def test_restarts_and_targets_can_be_set_for_all_members() -> None:
    chosen = settings_of(AutoAttack(LINF, version="plus", restarts=2, targets=4))
    assert {restarts for restarts, _ in chosen.values()} == {2}
    assert chosen["apgd_t"] == chosen["fab_t"] == (2, 4)


def test_only_rand_asks_for_twenty_draws() -> None:
    assert AutoAttack(LINF, version="rand").draws == 20
    assert AutoAttack(LINF).draws == AutoAttack(LINF, version="plus").draws == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: AutoAttack(LINF, attacks=["fab"]), r"attacks=\['fab'\] goes with version 'custom'"),
        (lambda: AutoAttack(LINF, version="custom"), "needs attacks"),
        (lambda: AutoAttack(LINF, version="custom", attacks=["apgd-ce"]), "unknown attack 'apgd-ce'.*apgd_ce"),
        (lambda: AutoAttack(LINF, version="custom", attacks=["fab", "fab"]), "'fab' twice"),
        (lambda: AutoAttack(LINF, version="fast"), "unknown version 'fast'.*standard, plus, rand, custom"),  # pyright: ignore[reportArgumentType]
        (lambda: AutoAttack(LINF, steps=0), "at least one step"),
        (lambda: AutoAttack(LINF, restarts=0), "restarts is 0"),
        (lambda: AutoAttack(LINF, targets=0), "one target"),
        (lambda: AutoAttack(LINF, queries=-1), "queries=-1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(wrong: Callable[[], AutoAttack], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        wrong()


def test_every_member_is_credited_with_the_images_it_was_the_first_to_fool() -> None:
    y = Y.clone()
    y[:5] = (y[:5] + 1) % 6  # wrong from the start: nobody's merit
    search = Search(MODEL, X, y, LINF, compact=True)
    quick(version="custom", attacks=["square", "apgd_ce", "fab"], queries=5, restarts=1).on(search)
    assert list(search.fallen) == ["square", "apgd_ce", "fab"]
    assert sum(search.fallen.values()) == int((search.margin > 0).sum()) - 5
    assert search.fallen["apgd_ce"] > 0
    alone = Search(MODEL, X, y, LINF, compact=True)
    alone.salt = "square/"
    Square(LINF, queries=5).on(alone)
    assert search.fallen["square"] == int((alone.margin > 0).sum()) - 5


def test_a_compact_search_asks_no_more_about_fallen_images() -> None:
    asked: list[int] = []

    def counting(x: Tensor) -> Tensor:
        asked.append(len(x))
        return MODEL(x)

    threat = Threat("linf", 0.5)  # everything falls to the first member
    search = Search(counting, X, Y, threat, compact=True)
    quick(threat, version="custom", attacks=["apgd_ce"], steps=30).on(search)
    assert search.fallen == {"apgd_ce": 50}
    asked.clear()
    later = quick(threat, version="custom", attacks=["apgd_t", "fab", "square"])
    later.on(search)
    assert asked == [] and search.fallen == {"apgd_ce": 50, "apgd_t": 0, "fab": 0, "square": 0}
    later.on(Search(counting, X, Y, threat, compact=False))
    assert asked and set(asked) == {50}


def test_members_draw_different_noise_and_the_salt_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[str] = []
    uniform = noise.uniform

    def spied(x: Tensor, stream: str, *shape: Any) -> Tensor:
        streams.append(stream)
        return uniform(x, stream, *shape)

    monkeypatch.setattr(noise, "uniform", spied)
    search = Search(MODEL, X[:5], Y[:5], LINF)
    search.salt = "outer/"
    quick(version="custom", attacks=["apgd_ce", "apgd_dlr"], restarts=2).on(search)
    assert streams == ["outer/apgd_ce/0/0", "outer/apgd_ce/0/1", "outer/apgd_dlr/0/0", "outer/apgd_dlr/0/1"]
    assert search.salt == "outer/"


@pytest.mark.parametrize(("norm", "eps", "count"), [("linf", 0.012, 50), ("l2", 0.11, 20), ("l1", 0.7, 20)])
def test_flags_are_the_same_at_any_batch_size(norm: Norm, eps: float, count: int) -> None:
    threat = Threat(norm, eps)
    exact = classifier(ConvEncoder(seed=4).double()).double()

    def model(x: Tensor) -> Tensor:
        return exact(x.double()).float()  # in single precision batches of another size round differently

    auto = quick(threat, version="custom", attacks=EVERY, steps=4, queries=10, targets=1, restarts=1)

    def fallen(size: int) -> Tensor:
        flags = []
        for part in torch.arange(count).split(size):
            with noise.samples(part):
                search = Search(model, X[part], Y[part], threat, compact=True)
                auto.on(search)
                flags.append(search.margin > 0)
        return torch.cat(flags)

    whole = fallen(count)
    assert 0.1 < whole.float().mean() < 0.9
    assert torch.equal(fallen(7), whole)
    assert torch.equal(fallen(1), whole)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("version", "compact"), [("plus", True), ("plus", False), ("standard", True)])
def test_models_with_two_or_three_classes_are_attacked(
    version: Version, compact: bool, classes: int, norm: Norm
) -> None:
    threat = Threat(norm, {"linf": 0.05, "l2": 0.4, "l1": 2.0}[norm])
    model = classifier(ConvEncoder(seed=4), classes)
    with torch.no_grad():
        y = model(X[:12]).argmax(dim=1)
    search = Search(model, X[:12], y, threat, compact=compact)
    x_adv = quick(threat, version=version, restarts=1).on(search)
    with torch.no_grad():
        assert torch.equal(model(x_adv).argmax(dim=1) != y, search.margin > 0)
    assert int((search.margin > 0).sum()) == sum(search.fallen.values()) > 0
    assert threat.contains(X[:12], x_adv).all()


def test_what_few_classes_change_is_said() -> None:
    def notes(classes: int, version: Version = "plus") -> list[str]:
        model = classifier(ConvEncoder(seed=4), classes)
        search = Search(model, X[:4], torch.zeros(4, dtype=torch.long), LINF)
        quick(version=version, steps=1, queries=1, restarts=1).on(search)
        return search.notes

    assert notes(2) == [
        "apgd_dlr ascended the loss 'margin': 2 classes are too few for DLR",
        "apgd_t ascended the loss 'margin_targeted': 2 classes are too few for DLR",
        "apgd_t had 1 targets instead of 9: there are 2 classes",
        "fab_t had 1 targets instead of 9: there are 2 classes",
    ]
    assert [note.split()[0] for note in notes(3)] == ["apgd_t", "apgd_t", "fab_t"]
    assert notes(6, "standard") == [
        "apgd_t had 5 targets instead of 9: there are 6 classes",
        "fab_t had 5 targets instead of 9: there are 6 classes",
    ]
    assert notes(10) == [] and notes(6, "rand") == []


def test_a_model_with_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="a model with 1 class"):
        quick()(lambda x: x.flatten(1)[:, :1], X, torch.zeros(50, dtype=torch.long))


def test_the_ensemble_fools_every_image_that_a_member_alone_fools() -> None:
    auto = quick(version="custom", attacks=EVERY, restarts=1)
    search = Search(MODEL, X, Y, LINF)
    auto.on(search)
    for name, member in auto.members(classes=6).items():
        alone = Search(MODEL, X, Y, LINF)
        alone.salt = f"{name}/"
        member.on(alone)
        assert not ((alone.margin > 0) & (search.margin <= 0)).any()


def test_a_loss_without_labels_is_ascended_by_auto_pgd() -> None:
    def loss(x: Tensor) -> Tensor:
        return margin(MODEL(x), Y)

    x_adv = quick().perturb(loss, X)
    assert torch.equal(x_adv, APGD(LINF, steps=6).perturb(loss, X))
    with torch.no_grad():
        assert (loss(x_adv) > loss(X)).all()
