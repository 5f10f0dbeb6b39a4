"""Every view leads through the encoders it is named for, all of them, and a search averages their losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules.attacks.base import Search
from modules.defenses.base import Defense, View
from modules.defenses.routes import StraightThrough, route, routes
from modules.encoders.base import ImageEncoder
from modules.perturb import Threat
from modules.perturb.losses import cross_entropy
from modules.zero_shot import ZeroShotClassifier
from tests.modules.toys import ConvEncoder, head, images


class Everything(Defense):
    """A defense with every hook; each hook hands out an encoder of its own."""

    random = True
    rejects = True
    artefact = "planted"

    def __init__(self) -> None:
        super().__init__(ConvEncoder(seed=0))
        self.exact, self.smooth, self.cheap = ConvEncoder(seed=1), ConvEncoder(seed=2), ConvEncoder(seed=3)
        self.stops: list[ImageEncoder] = [ConvEncoder(seed=4), ConvEncoder(seed=5)]
        self.pieces: list[ImageEncoder] = [ConvEncoder(seed=6), ConvEncoder(seed=7)]

    def differentiable(self) -> ImageEncoder:
        return self.exact

    def smoothed(self) -> ImageEncoder:
        return self.smooth

    def cheaper(self) -> ImageEncoder:
        return self.cheap

    def iterates(self) -> list[ImageEncoder]:
        return self.stops

    def parts(self) -> list[ImageEncoder]:
        return self.pieces

    def gate(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(dim=1) - 0.5


LOOKS = {
    View.transfer: lambda d: (d.encoder,),
    View.adaptive: lambda d: (d.exact,),
    View.eot: lambda d: (d.exact,),
    View.smooth: lambda d: (d.smooth,),
    View.gate: lambda d: (d.exact,),
    View.surrogate: lambda d: (d.cheap,),
    View.trajectory: lambda d: (*d.stops, d.exact),
    View.ensemble: lambda d: (d.encoder, d.exact),
    View.parts: lambda d: tuple(d.pieces),
    View.query: lambda d: (d,),
    View.control: lambda d: (d,),
    View.released: lambda d: (d,),
}
DRAWN = {View.eot, View.bpda, View.smooth, View.gate, View.surrogate, View.trajectory, View.ensemble}
DRAWN |= {View.query, View.control}
FAITHFUL = {View.adaptive, View.eot, View.bpda, View.gate, View.query, View.control, View.released}


def test_the_planted_defense_has_every_view_and_each_is_looked_at() -> None:
    assert set(Everything().views()) == set(View) == {*LOOKS, View.bpda}


@pytest.mark.parametrize("view", LOOKS)
def test_a_view_looks_through_exactly_the_encoders_it_is_named_for(view: View) -> None:
    defense = Everything()
    found, expected = route(view, defense).looks, LOOKS[view](defense)
    assert len(found) == len(expected)
    assert all(one is other for one, other in zip(found, expected, strict=True))


def test_parts_are_attacked_one_by_one_and_together_and_every_other_view_has_one_route() -> None:
    defense = Everything()
    assert [way.looks for way in routes(View.parts, defense)] == [
        (defense.pieces[0],),
        (defense.pieces[1],),
        tuple(defense.pieces),
    ]
    for view in (view for view in View if view is not View.parts):
        (way,) = routes(view, defense)
        assert len(way.looks) == len(route(view, defense).looks)


def test_bpda_looks_straight_through_the_defense_itself() -> None:
    defense = Everything()
    (look,) = route(View.bpda, defense).looks
    assert isinstance(look, StraightThrough) and look.defense is defense


@pytest.mark.parametrize("view", View)
def test_a_view_says_whose_values_it_has_and_whether_noise_is_averaged(view: View) -> None:
    defense = Everything()
    found = route(view, defense)
    assert found.averaged == (view in DRAWN)
    assert found.faithful == (view in FAITHFUL)
    assert (found.penalty is not None) == (view is View.gate)
    assert (found.refused is not None) == (view in (View.gate, View.query, View.control))
    defense.random = defense.rejects = False
    if view is not View.eot:
        calm = route(view, defense)
        assert not calm.averaged and calm.refused is None


@pytest.mark.parametrize("view", [View.ensemble, View.trajectory, View.smooth, View.surrogate])
def test_a_search_by_a_view_averages_the_losses_and_gradients_of_all_its_looks(view: View) -> None:
    defense, x, classify = Everything(), images(4), head(16)
    y = torch.tensor([0, 1, 2, 3])
    classifiers = [ZeroShotClassifier(look, classify) for look in route(view, defense).looks]
    expected = [ZeroShotClassifier(look, classify) for look in LOOKS[view](defense)]
    search = Search(classifiers, x, y, Threat(eps=0.1))
    search.aim(cross_entropy, (y,))
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    value = search(leaf)
    by_hand = torch.stack([cross_entropy(model(other), y) for model in expected]).mean(dim=0)
    torch.testing.assert_close(value, by_hand)
    torch.testing.assert_close(*(torch.autograd.grad(v.sum(), t)[0] for v, t in ((value, leaf), (by_hand, other))))
