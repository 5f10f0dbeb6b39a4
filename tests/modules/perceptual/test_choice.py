from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.attacks import APGD, Square
from modules.attacks.search import Search
from modules.defenses import RandomNoise
from modules.encoders.base import ImageEncoder
from modules.perceptual.choice import Choice, Target, perturbed, threat_of
from modules.perturb.threat import Threat
from tests.modules.toys import ConvEncoder, images

TARGETS: tuple[Target, ...] = ("reference", "alternatives", "all")
ENCODER = ConvEncoder().freeze()
X = images(8)
TRIPLETS = torch.stack([X, (X + 0.02).clamp(0, 1), X.flip(0)], dim=1)  # the left one is nearer, but for its own flip
KEYS = noise.keys_of([f"triplet-{i}" for i in range(8)])


class Mean(ImageEncoder):
    """Two numbers of an image: the mean of its first channel and of its second."""

    embedding_dim, image_size = 2, 4

    def encode_image(self, x: Tensor) -> Tensor:
        return x[:, :2].mean(dim=(2, 3))


def flat(a: float, b: float) -> Tensor:
    return torch.tensor([a, b, 0.0])[:, None, None].expand(3, 4, 4)


def test_the_nearer_image_is_chosen_and_equal_ones_are_left() -> None:
    triplets = torch.stack(
        [
            torch.stack([flat(1, 0), flat(0.9, 0.1), flat(0, 1)]),
            torch.stack([flat(1, 0), flat(0, 1), flat(0.9, 0.1)]),
            torch.stack([flat(1, 0), flat(0, 1), flat(0, 1)]),
        ]
    )
    choice = Choice(Mean(), triplets)
    assert choice(choice.pixels).argmax(dim=1).tolist() == [0, 1, 0]


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_changed_does_not_change_the_clean_answer(target: Target) -> None:
    z = torch.nn.functional.normalize(ENCODER(TRIPLETS.flatten(0, 1)), dim=1).unflatten(0, (8, 3))
    wanted = torch.stack([(z[:, 0] * z[:, 1]).sum(1), (z[:, 0] * z[:, 2]).sum(1)], dim=1)
    choice = Choice(ENCODER, TRIPLETS, target=target)
    assert torch.allclose(choice(choice.pixels), wanted, atol=1e-6)
    few = torch.tensor([1, 4, 5])
    assert torch.allclose(choice.of(few)(choice.pixels[few]), wanted[few], atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_an_attack_that_leaves_out_the_fallen_finds_what_one_that_keeps_them_finds(target: Target) -> None:
    threat = threat_of(target, Threat("linf", 0.06))
    y = Choice(ENCODER, TRIPLETS)(X).argmax(dim=1)
    found = []
    for compact in (False, True):
        with noise.samples(KEYS):
            choice = Choice(ENCODER, TRIPLETS, target=target)
            search = Search(choice, choice.pixels, y, threat, compact=compact)
            x_adv = APGD(threat, loss="margin", steps=10).on(search)
        assert threat.contains(choice.pixels, x_adv).all()
        found.append(choice(x_adv).argmax(dim=1) != y)
    assert torch.equal(*found) and found[0].any()


def test_who_may_change_more_finds_no_less() -> None:
    y = Choice(ENCODER, TRIPLETS)(X).argmax(dim=1)
    margins = {}
    for target in TARGETS:
        choice, threat = Choice(ENCODER, TRIPLETS, target=target), threat_of(target, Threat("l2", 0.15))
        search = Search(choice, choice.pixels, y, threat)
        APGD(threat, loss="margin", steps=40).on(search)
        margins[target] = search.margin
    assert (margins["all"] > margins["reference"]).all()
    assert (margins["all"] > margins["alternatives"]).all()


def test_with_two_choices_cross_entropy_and_margin_ascend_the_same_way() -> None:
    y = torch.zeros(8, dtype=torch.long)
    slopes = []
    for loss in ("ce", "margin"):
        choice = Choice(ENCODER, TRIPLETS)
        search = Search(choice, X, y, Threat())
        label_loss, labels = APGD(Threat(), loss=loss).label_losses(choice(X), y)[0]
        search.aim(label_loss, labels)
        leaf = X.clone().requires_grad_()
        (grad,) = torch.autograd.grad(search(leaf).sum(), leaf)
        slopes.append(grad.sign())
    assert torch.equal(*slopes)


def test_an_attack_of_no_radius_changes_nothing() -> None:
    choice = Choice(ENCODER, TRIPLETS, target="all")
    threat = threat_of("all", Threat("linf", 0.0))
    assert torch.equal(APGD(threat, steps=3)(choice, choice.pixels, torch.zeros(8, dtype=torch.long)), choice.pixels)


def test_a_search_without_gradients_works_on_two_images_at_once() -> None:
    choice, threat = Choice(ENCODER, TRIPLETS, target="alternatives"), threat_of("alternatives", Threat("linf", 0.06))
    search = Search(choice, choice.pixels, torch.zeros(8, dtype=torch.long), threat)
    search.begin()
    clean = search.margin.clone()
    x_adv = Square(threat, queries=60).on(search)
    assert threat.contains(choice.pixels, x_adv).all()
    assert (search.margin > clean).all()


@pytest.mark.parametrize("target", TARGETS)
def test_a_defences_noise_belongs_to_the_triplet_and_each_image_has_its_own(target: Target) -> None:
    defended = RandomNoise(ENCODER, eps=0.1)
    whole = Choice(defended, TRIPLETS, target=target)
    with noise.samples(KEYS):
        together = whole(whole.pixels)
        again = whole(whole.pixels)
    with noise.samples(KEYS[3:4]):
        alone = whole.of(torch.tensor([3]))(perturbed(TRIPLETS, target)[3:4])
    assert torch.equal(together, again)
    assert torch.allclose(together[3:4], alone, atol=1e-6)
    same = TRIPLETS[:, :1].repeat(1, 3, 1, 1, 1)
    with noise.samples(KEYS):
        logits = Choice(defended, same, target=target)(perturbed(same, target))
    assert (logits < 1 - 1e-6).all(), "the same noise on equal images would make them equal"


def test_the_fixed_images_are_encoded_once() -> None:
    calls: list[int] = []
    counting = ConvEncoder().freeze()
    counting.body.register_forward_pre_hook(lambda _, x: calls.append(len(x[0])))
    choice = Choice(counting, TRIPLETS)
    for _ in range(3):
        choice.of(torch.arange(4))(X[:4])
    assert calls == [16, 4, 4, 4]


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of: reference, alternatives, all"):
        Choice(ENCODER, TRIPLETS, target="left")  # pyright: ignore[reportArgumentType]
