"""Every planted defence is caught by the right doubt and broken by a view; honest ones are left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from eval.card import Doubt
from eval.checks import number_doubts, probe_doubts
from eval.harness import evaluate
from eval.health import measure
from eval.outcomes import Cell
from eval.rows import Subject
from modules import noise
from modules.attacks.apgd import APGD
from modules.defenses.base import Defense, Undefended, View
from modules.defenses.clipure_cos import CLIPureCos
from modules.defenses.random_noise import RandomNoise
from modules.defenses.routes import StraightThrough
from modules.defenses.ttc import TTC
from modules.encoders.base import ImageEncoder
from tests.eval import gallery
from tests.eval.toy_world import CLASSES, THREAT, Reader, pictures, toy_judge, toy_plan

Make = Callable[[Reader], Defense]


@dataclass(frozen=True)
class Verdict:
    """What became of a defence.

    Attributes:
        doubts: all of them.
        standing: accuracy under each view.
        clean: accuracy without an attack.
        worst: accuracy under all of them.
        bare: the undefended encoder's.
    """

    doubts: list[Doubt]
    standing: dict[str, float]
    clean: float
    worst: float
    bare: float

    @property
    def red(self) -> set[str]:
        return {doubt.name for doubt in self.doubts if doubt.severity == "red"}


def judged(encoder: Reader, make: Make) -> Verdict:
    defense = make(encoder)
    judge, batch = toy_judge(encoder, defense)
    doubts = probe_doubts(judge, "planted", batch, measure(judge, "planted", batch))
    found = evaluate(encoder, toy_plan(encoder, defense), Subject("toy"), quiet=True)
    doubts += number_doubts(found.outcomes["toy"], found.rows["toy"], "planted")
    plain = [row for row in found.results if row.metric in ("clean_accuracy", "robust_accuracy")]
    value = {(row.defense, row.view): row.value for row in plain}
    standing = {view: value for (defense, view), value in value.items() if defense == "planted"}
    return Verdict(doubts, standing, standing.pop("none"), standing.pop("worst"), value["none", "worst"])


def nearest(encoder: Reader) -> Defense:
    x = torch.stack([sample.x for sample in map(pictures().__getitem__, range(60))])
    return gallery.NearestLatent(encoder, encoder.encode_image(x).detach())


def leak(encoder: Reader) -> Defense:
    source, latents = pictures(), encoder.turn.detach()
    keys = noise.keys_of(source.keys).tolist()
    answers: dict[int, Tensor] = {key: latents[label] for key, label in zip(keys, source.labels, strict=True)}
    return gallery.LabelLeak(encoder, answers)


# the defence, the red doubts that must name it, and a view that breaks it even from a cold start
BAD: list[tuple[Make, set[str], str]] = [
    (gallery.DetachedPurifier, {"no_gradient", "masked_gradient"}, "bpda"),
    (gallery.HalfPrecision, {"no_gradient", "underflow", "masked_gradient"}, "bpda"),
    (gallery.Saturated, {"saturated_logits"}, "query"),
    (gallery.RoundedPixels, {"no_gradient", "masked_gradient"}, "bpda"),
    (nearest, {"no_gradient", "flat_answers", "masked_gradient"}, "bpda"),
    (gallery.JPEG, {"wrong_gradient"}, "adaptive"),
    (gallery.RandomResizePad, {"hidden_randomness"}, "query"),
    (gallery.BatchNormaliser, {"batch_coupled"}, "adaptive"),
    (gallery.SoftmaxHead, {"probabilities"}, "bpda"),
    (gallery.SignFlip, {"wrong_gradient", "reversed_gradient", "masked_gradient"}, "bpda"),
    (gallery.GradientWatcher, {"watches_gradients", "masked_gradient"}, "bpda"),
    (gallery.Squash, {"no_gradient", "masked_gradient"}, "bpda"),
    (gallery.KeyedNoise, {"undeclared_randomness"}, "adaptive"),
    (gallery.Ripples, {"wrong_gradient", "masked_gradient"}, "bpda"),
    (gallery.Drifts, {"hidden_randomness"}, "adaptive"),
    (gallery.WakesUp, {"remembers"}, "adaptive"),
    (gallery.KnowsWhenScored, {"undeclared_randomness"}, "transfer"),
    (gallery.FalseStandIn, {"stand_in"}, "bpda"),
]
# what a naive evaluation, of the adaptive view alone, would have called robust
OVERRATED = [
    gallery.DetachedPurifier,
    gallery.HalfPrecision,
    gallery.Saturated,
    gallery.RoundedPixels,
    nearest,
    gallery.SignFlip,
    gallery.GradientWatcher,
    gallery.Squash,
    gallery.Ripples,
    gallery.KnowsWhenScored,
]
# these answer without looking: no image can be attacked, and nothing but the doubt tells
BLIND: list[tuple[Make, set[str]]] = [
    (gallery.NoiseOnly, {"flat_answers", "no_gradient"}),
    (gallery.AlwaysRejects, {"same_answer", "flat_answers", "no_gradient"}),
]


def named(case: object) -> str:
    return getattr(case, "__name__", "")


@pytest.mark.parametrize(("make", "expected", "breaks"), BAD, ids=named)
def test_a_planted_defence_is_caught_and_broken(make: Make, expected: set[str], breaks: str) -> None:
    verdict = judged(Reader("whisper"), make)
    assert expected <= verdict.red, verdict.doubts
    assert verdict.clean >= 0.5  # something worth breaking
    assert verdict.standing[breaks] <= verdict.bare + 0.05
    assert verdict.worst <= verdict.bare + 0.05


@pytest.mark.parametrize("make", OVERRATED, ids=named)
def test_a_planted_defence_looks_robust_to_whoever_follows_its_gradient_only(make: Make) -> None:
    encoder = Reader("whisper")
    plan = toy_plan(encoder, make(encoder), apgd=APGD(THREAT, steps=15))
    alone = {"apgd": replace(plan.attacks["apgd"], views=frozenset({View.adaptive}))}
    found = evaluate(encoder, replace(plan, attacks=alone), Subject("toy"), quiet=True)
    outcomes = found.outcomes["toy"]
    assert sum(outcomes.robust([Cell("planted", "apgd", "adaptive", THREAT.eps)])) >= 0.6 * len(outcomes.keys)
    assert "no_query" in {doubt.name for doubt in number_doubts(outcomes, found.rows["toy"], "planted")}


@pytest.mark.parametrize(("make", "expected"), BLIND, ids=named)
def test_a_defence_that_does_not_look_is_caught(make: Make, expected: set[str]) -> None:
    verdict = judged(Reader("whisper"), make)
    assert expected <= verdict.red
    assert verdict.worst <= 1 / CLASSES + 0.01


def test_a_leak_of_labels_is_caught_and_finds_no_names_to_read_when_it_is_scored() -> None:
    verdict = judged(Reader("whisper"), leak)
    assert {"label_leak", "reads_names"} <= verdict.red
    assert verdict.worst <= verdict.bare + 0.05


@pytest.mark.parametrize("make", [gallery.HalfPrecision, gallery.Saturated, gallery.SoftmaxHead, nearest], ids=named)
def test_bpda_has_the_values_of_the_defence_to_the_last_bit(make: Make) -> None:
    """Where values are tiny beside the bare encoder's, a sum of the two would round them away."""
    encoder = Reader("whisper")
    defense = make(encoder)
    judge, batch = toy_judge(encoder, defense)
    values = [judge.asked(look, batch)(batch.x) for look in (StraightThrough(defense), defense)]
    assert torch.equal(*values)


def test_what_is_hidden_is_not_mistaken_for_something_else() -> None:
    encoder = Reader("whisper")
    judge, batch = toy_judge(encoder, gallery.RandomResizePad(encoder))
    doubts = probe_doubts(judge, "planted", batch, measure(judge, "planted", batch))
    assert [doubt.name for doubt in doubts] == ["hidden_randomness"]


def cos(encoder: ImageEncoder) -> Defense:
    return CLIPureCos(encoder, torch.ones(CLASSES))


@pytest.mark.parametrize("make", [Undefended, cos, RandomNoise], ids=named)
@pytest.mark.parametrize("voice", ["loud", "whisper"])
def test_an_honest_defence_raises_no_doubt(make: Make, voice: str) -> None:
    encoder = Reader("loud" if voice == "loud" else "whisper")
    verdict = judged(encoder, make)
    assert verdict.doubts == []
    assert verdict.clean == 1.0
    assert verdict.worst == (1.0 if voice == "loud" else 0.0)


def test_an_honest_defence_with_signs_and_a_gate_raises_no_red_doubt() -> None:
    assert judged(Reader("loud"), TTC).red == set()
