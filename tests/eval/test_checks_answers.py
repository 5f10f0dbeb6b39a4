"""Doubts from answers: each is raised by its fault, at the size that its threshold says, and by nothing honest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from eval.card import Doubt, Health
from eval.checks import answers
from eval.checks.memory import memory_doubts
from eval.checks.probed import Probed, moved, percent
from modules import noise
from modules.defenses.base import Defense, Undefended
from modules.defenses.clipure_cos import CLIPureCos
from modules.defenses.random_noise import RandomNoise
from modules.encoders.base import ImageEncoder
from tests.eval import gallery
from tests.eval.toy_world import CLASSES, Reader, toy_judge

HEALTHY = Health("adaptive", 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0)


def probed(make: Callable[[ImageEncoder], Defense], count: int = 32) -> Probed:
    encoder = Reader("loud")
    judge, batch = toy_judge(encoder, make(encoder))
    return Probed(judge, "planted", batch.select(slice(0, count)))


def summary(doubts: list[Doubt]) -> list[tuple[str, str]]:
    return [(doubt.name, doubt.severity) for doubt in doubts]


class Pixels(Defense):
    """Whatever a function makes of the pixels."""

    def __init__(self, encoder: ImageEncoder, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(encoder)
        self.change = change

    def purify_pixels(self, x: Tensor) -> Tensor:
        return self.change(x)


class Logits(Defense):
    """Whatever a function makes of the logits."""

    def __init__(self, encoder: ImageEncoder, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(encoder)
        self.change = change

    def logits(self, x: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        return self.change(super().logits(x, head))


def honest(encoder: ImageEncoder) -> Defense:
    return CLIPureCos(encoder, torch.ones(CLASSES))


@pytest.mark.parametrize("make", [Undefended, honest, RandomNoise])
def test_honest_defences_raise_none(make: Callable[[ImageEncoder], Defense]) -> None:
    seen = probed(make)
    before = seen.logits()
    assert answers.randomness_doubts(seen) == []
    assert answers.answer_doubts(seen) == []
    assert answers.comparison_doubts(seen) == []
    assert memory_doubts(seen, before) == []


def test_noise_is_hidden_undeclared_or_idle() -> None:
    hidden = [("hidden_randomness", "red")]
    assert summary(answers.randomness_doubts(probed(gallery.RandomResizePad))) == hidden
    undeclared = [("undeclared_randomness", "red")]
    assert summary(answers.randomness_doubts(probed(gallery.KeyedNoise))) == undeclared

    class Says(Undefended):
        random = True

    class Both(gallery.RandomResizePad):
        random = True

    assert summary(answers.randomness_doubts(probed(Says))) == [("idle_randomness", "amber")]
    assert summary(answers.randomness_doubts(probed(Both))) == [("hidden_randomness", "amber")]


@pytest.mark.parametrize(("size", "found"), [(1e-6, 0), (1e-2, 1)])
def test_rounding_is_no_noise(size: float, found: int) -> None:
    def noisy(x: Tensor) -> Tensor:
        return x + size * noise.normal(x, "tiny")

    assert len(answers.randomness_doubts(probed(lambda encoder: Pixels(encoder, noisy)))) == found


@pytest.mark.parametrize(
    ("coupled", "how"),
    [
        (lambda x: x - x.mean(dim=0), "in a padded batch|with half|alone"),
        (lambda x: torch.where(torch.arange(len(x))[:, None, None, None] % 2 == 0, x, x.flip(-1)), "in another order"),
        (lambda x: x if len(x) > 1 else x.flip(-1), "alone"),
        (lambda x: x if len(x) <= 32 else x.flip(-1), "in a batch of 120, as the evaluation's|in a padded batch"),
        (lambda x: torch.cat([x[:1].flip(-1), x[1:]]), "in another order"),
    ],
)
def test_what_neighbours_order_or_number_change_is_coupled(coupled: Callable[[Tensor], Tensor], how: str) -> None:
    (doubt,) = answers.neighbour_doubts(probed(lambda encoder: Pixels(encoder, coupled)))
    assert (doubt.name, doubt.severity) == ("batch_coupled", "red")
    assert any(words in doubt.text for words in how.split("|"))


@pytest.mark.parametrize(("size", "found"), [(1e-5, 0), (0.05, 1)])
def test_a_weak_pull_of_the_neighbours_is_found_and_rounding_is_not(size: float, found: int) -> None:
    def pulled(z: Tensor) -> Tensor:
        return z + size * z.mean(dim=0)

    seen = probed(lambda encoder: Logits(encoder, pulled), count=31)  # no whole number of each class
    assert summary(answers.neighbour_doubts(seen)) == [("batch_coupled", "red")] * found


def test_a_defence_that_fails_on_single_images_is_coupled() -> None:
    def needs_two(x: Tensor) -> Tensor:
        if len(x) < 2:
            raise IndexError("one is not enough")
        return x

    (doubt,) = answers.neighbour_doubts(probed(lambda encoder: Pixels(encoder, needs_two)))
    assert doubt.name == "batch_coupled" and "one is not enough" in doubt.text


def test_coupling_that_an_artefact_declares_is_the_artefacts() -> None:
    def legacy(encoder: ImageEncoder) -> Defense:
        return CLIPureCos(encoder, torch.ones(CLASSES), mode="legacy")

    def unlabelled(encoder: ImageEncoder) -> Defense:
        defense = legacy(encoder)
        defense.artefact = ""
        return defense

    assert answers.neighbour_doubts(probed(legacy)) == []
    assert summary(answers.neighbour_doubts(probed(unlabelled))) == [("batch_coupled", "red")]


def test_names_must_not_matter_where_there_is_no_noise() -> None:
    assert summary(answers.name_doubts(probed(gallery.KeyedNoise))) == [("reads_names", "red")]
    assert answers.name_doubts(probed(RandomNoise)) == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda x: x / x.amax(dim=(1, 2, 3), keepdim=True), "black"),
        (lambda x: x / x.std(dim=(1, 2, 3), keepdim=True), "black"),
        (lambda x: (1 - x.amax(dim=(1, 2, 3), keepdim=True)) / (1 - x.amax(dim=(1, 2, 3), keepdim=True)) * x, "white"),
    ],
)
def test_answers_that_are_not_finite_are_found_on_plain_images(broken: Callable[[Tensor], Tensor], said: str) -> None:
    (doubt,) = answers.fringe_doubts(probed(lambda encoder: Pixels(encoder, broken)))
    assert (doubt.name, doubt.severity) == ("not_finite", "red")
    assert said in doubt.text


def test_a_leak_through_some_of_the_names_is_found() -> None:
    from tests.eval.test_gallery import leak

    def half(encoder: ImageEncoder) -> Defense:
        assert isinstance(encoder, Reader)
        whole = leak(encoder)
        assert isinstance(whole, gallery.LabelLeak)
        known = dict(list(whole.answers.items())[::2])
        return gallery.LabelLeak(encoder, known)

    (doubt,) = answers.leak_doubts(probed(half))
    assert (doubt.name, doubt.severity) == ("label_leak", "red")


def test_the_same_answer_to_all_noise_is_no_leak() -> None:
    assert answers.leak_doubts(probed(gallery.AlwaysRejects)) == []
    assert answers.leak_doubts(probed(gallery.AlwaysRejects, count=1)) == []  # right by chance, perhaps


@pytest.mark.parametrize(
    ("change", "found"),
    [(lambda z: z.softmax(1), 1), (lambda z: z.log_softmax(1), 0), (lambda z: z - z.mean(1, keepdim=True) + 1 / 6, 0)],
)
def test_probabilities_are_told_from_logits(change: Callable[[Tensor], Tensor], found: int) -> None:
    assert len(answers.scale_doubts(probed(lambda encoder: Logits(encoder, change)))) == found


def test_one_answer_for_all_is_doubted_only_where_the_labels_differ() -> None:
    assert summary(answers.constant_doubts(probed(gallery.AlwaysRejects))) == [("same_answer", "red")]
    assert answers.constant_doubts(probed(Undefended, count=2)) == []
    assert answers.constant_doubts(probed(gallery.AlwaysRejects, count=2)) == []


@pytest.mark.parametrize(("levels", "found"), [(100, 0), (3, 1)])
def test_flat_answers_are_red_unless_a_gradient_stands_in(levels: int, found: int) -> None:
    def rounded(x: Tensor) -> Tensor:
        return (levels * x).round() / levels

    def make(encoder: ImageEncoder) -> Defense:
        return Pixels(encoder, rounded)

    dead = replace(HEALTHY, dead=1.0)
    assert summary(answers.flat_doubts(probed(make), [dead])) == [("flat_answers", "red")] * found
    assert summary(answers.flat_doubts(probed(make), [HEALTHY])) == [("flat_answers", "amber")] * found


def test_a_defence_that_never_acts_is_said_to_be_idle() -> None:
    def acts_on_one(x: Tensor) -> Tensor:
        return torch.cat([x[:1].flip(-1), x[1:]])

    assert summary(answers.idle_doubts(probed(lambda e: Pixels(e, lambda x: x)))) == [("idle_defence", "amber")]
    assert answers.idle_doubts(probed(lambda e: Pixels(e, acts_on_one))) == []


def test_a_defence_that_remembers_is_found() -> None:
    seen = probed(gallery.WakesUp)
    before = seen.logits()
    assert memory_doubts(seen, before) == []
    for _ in range(60):
        seen.logits()
    assert summary(memory_doubts(seen, before)) == [("remembers", "red")]


def test_movement_is_measured_in_spreads_and_nonsense_is_infinite() -> None:
    before = torch.tensor([[0.0, 2.0], [0.0, 2.0]])
    after = torch.tensor([[0.0, 3.0], [torch.nan, 2.0]])
    assert moved(before, after).tolist() == pytest.approx([1 / before.std().item(), torch.inf])
    assert moved(before, before).tolist() == [0.0, 0.0]
    assert moved(before * 0, before * 0).tolist() == [0.0, 0.0]


def test_shares_are_written_for_people() -> None:
    assert [percent(share) for share in (0.0, 0.004, 0.5, 1.0)] == ["0 %", "0.4 %", "50 %", "100 %"]


def test_a_defense_that_looks_for_the_grid_of_grey_levels_is_found() -> None:
    def off_the_grid(x: Tensor) -> Tensor:
        off = ((x * 255 - (x * 255).round()).abs() > 0.02).flatten(1).any(dim=1)
        return torch.where(off[:, None, None, None], x.flip(-1), x)

    found = answers.grid_doubts(probed(lambda encoder: Pixels(encoder, off_the_grid)))
    assert summary(found) == [("watches_pixels", "red")]
    for make in (Undefended, honest, lambda encoder: Pixels(encoder, lambda x: (x * 255).round() / 255)):
        assert answers.grid_doubts(probed(make)) == []


def test_a_defense_that_another_order_or_a_copy_tells_apart_remembers() -> None:
    class Stores(Defense):
        def __init__(self, encoder: ImageEncoder) -> None:
            super().__init__(encoder)
            self.first: Tensor | None = None

        def purify_latent(self, z: Tensor) -> Tensor:
            self.first = z[:1].detach() if self.first is None else self.first
            return z + self.first

    encoder = Reader("loud").freeze()
    judge, batch = toy_judge(encoder, Stores(encoder))
    judge.plan.config = replace(judge.plan.config, rechecks=["afresh"])
    fresh = type(judge)(encoder, judge.plan, judge.task, judge.subject)
    seen = Probed(fresh, "planted", batch.select(slice(0, 16)))
    fresh.defenses["planted"].encode_image(batch.x[40:60])  # asked about others first
    assert summary(memory_doubts(seen, seen.logits())) == [("remembers", "red")]
    assert seen.unchecked == []
    seen = probed(honest)
    assert memory_doubts(seen, seen.logits()) == [] and len(seen.unchecked) == 1  # nobody asked for copies
