"""The harness: what its numbers count, what they depend on, and what they do not."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from eval.harness import SCORE_DRAW, Evaluation, evaluate
from eval.outcomes import Cell
from eval.plan import Plan
from eval.rows import Subject
from modules import noise
from modules.defenses.base import Defense
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIP

Planned = Callable[..., Plan]
CLIP_ITSELF = Subject("CLIP")


def flags(found: Evaluation) -> Mapping[Cell, list[bool]]:
    return found.outcomes["digits"].correct


def behind(plan: Plan, *defenses: Callable[[ImageEncoder], Defense]) -> Plan:
    """The plan with other defences under the names of its own."""
    made = dict(zip(plan.config.defenses, defenses, strict=True))
    return replace(plan, defend=lambda name, encoder, task: made[name](encoder))


class Spy(Defense):
    """Does nothing, and remembers every batch it saw with the draw of the noise that held there."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        self.seen: list[tuple[int, Tensor]] = []

    def purify_pixels(self, x: Tensor) -> Tensor:
        scope = noise.scope()
        assert scope is not None
        self.seen.append((scope.draw, x.detach().clone()))
        return x

    def scored(self) -> list[Tensor]:
        return [x for draw, x in self.seen if draw == SCORE_DRAW]


class RandomSpy(Spy):
    random = True


class NotANumber(Defense):
    def purify_latent(self, z: Tensor) -> Tensor:
        return z / 0 * 0


class Short(Defense):
    def purify_latent(self, z: Tensor) -> Tensor:
        return z[:, 1:]


class Lost(Defense):
    def purify_latent(self, z: Tensor) -> Tensor:
        return z[1:]


class BrokenGradient(Defense):
    """Sound until somebody follows its gradient."""

    def purify_latent(self, z: Tensor) -> Tensor:
        return z * torch.nan if torch.is_grad_enabled() else z


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (NotANumber, "NotANumber returned embeddings that are not finite"),
        (Short, r"Short returned \[20, 127\] instead of embeddings \[20, 128\]"),
        (Lost, r"Lost returned \[19, 128\] instead of embeddings \[20, 128\]"),
        (BrokenGradient, r"apgd on broken \(adaptive\): .* not finite"),
    ],
)
def test_a_defence_that_returns_nonsense_is_named_in_one_line(
    broken: type[Defense], said: str, clip: CLIP, planned: Planned
) -> None:
    plan = behind(planned("defenses={broken: {name: none}}"), broken)
    with pytest.raises(ValueError, match=said) as caught:
        evaluate(clip.image, plan, CLIP_ITSELF)
    assert "\n" not in str(caught.value)


def test_rows_count_what_the_outcomes_say(clip: CLIP, planned: Planned) -> None:
    plan = planned(
        "attacks={apgd: {steps: 3}, pgd: {steps: 2, step_size: 0.01, views: [transfer]}}",
        "defenses={none: {}, random_noise: {}, clipure_cos_legacy: {name: clipure_cos, mode: legacy}}",
        "curve={eps: [0.05], attack: apgd, defenses: [none]}",
    )
    found = evaluate(clip.image, plan, Subject("CLIP", "file.ckpt", 7))
    correct = flags(found)
    assert len({(r.defense, r.attack, r.view, r.eps) for r in found.results}) == len(found.results)
    for row in found.results:
        assert (row.n, row.checkpoint, row.step, row.config) == (20, "file.ckpt", 7, plan.hash)
        if row.attack == "worst":
            others = [c for c in correct if c.defense == row.defense and c.eps in (0.0, plan.threat.eps)]
            right = sum(all(correct[cell][i] for cell in others) for i in range(20))
        else:
            right = sum(
                correct[Cell(row.defense, row.attack, row.view, row.eps)][i] and correct[Cell(row.defense)][i]
                for i in range(20)
            )
        assert row.value == right / 20
        assert row.metric == ("clean_accuracy" if row.attack == "none" else "robust_accuracy")
        assert row.artefact == ("clipure-legacy" if "legacy" in row.defense else "")
    views = {row.defense: [r.view for r in found.results if r.defense == row.defense] for row in found.results}
    assert views["none"] == ["none", "adaptive", "adaptive", "adaptive", "worst"]  # two attacks and the curve
    assert views["random_noise"] == ["none", "transfer", "transfer", "adaptive", "bpda", "eot", "worst"]
    assert views["clipure_cos_legacy"][-2:] == ["released", "worst"]


def test_intervals_are_wilsons(clip: CLIP, planned: Planned) -> None:
    for row in evaluate(clip.image, planned("defenses={none: {}}"), CLIP_ITSELF).results:
        assert 0 <= row.low <= row.value <= row.high <= 1
        for end in (row.low, row.high):  # where the score test just rejects at 5 %
            assert (row.value - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / row.n, abs=1e-6)


@pytest.mark.parametrize(
    ("small", "settings"),
    [
        (7, ["defenses={none: {}, random_noise: {}, clipure_cos: {}, ttc: {}}", "views=[transfer, eot]"]),
        (
            6,
            ["defenses={clipure_cos: {mode: legacy}}", "views=[adaptive, released]"],
        ),  # neighbours are coupled in pairs
    ],
)
def test_no_outcome_depends_on_the_batch_size(small: int, settings: list[str], clip: CLIP, planned: Planned) -> None:
    settings = [*settings, "tasks.digits.limit=40", "attacks={apgd: {steps: 2}}"]
    whole = evaluate(clip.image, planned(*settings, "batch_size=40"), CLIP_ITSELF)
    parts = evaluate(clip.image, planned(*settings, f"batch_size={small}"), CLIP_ITSELF)
    assert whole.outcomes["digits"].keys == parts.outcomes["digits"].keys
    assert flags(whole) == flags(parts)


def test_no_outcome_depends_on_the_order_of_the_plan(clip: CLIP, planned: Planned) -> None:
    attacks = ["apgd: {steps: 3}", "pgd: {steps: 2, step_size: 0.01}"]
    defenses = ["none: {}", "random_noise: {}", "clipure_cos: {}"]

    def run(sign: int) -> tuple[Evaluation, str]:
        plan = planned(
            f"attacks={{{', '.join(attacks[::sign])}}}",
            f"defenses={{{', '.join(defenses[::sign])}}}",
        )
        return evaluate(clip.image, plan, CLIP_ITSELF), plan.hash

    (forwards, one), (backwards, other) = run(1), run(-1)
    assert one == other
    assert list(flags(forwards)) != list(flags(backwards))
    assert flags(forwards) == flags(backwards)


def test_the_seed_and_nothing_global_decides_the_noise(clip: CLIP, planned: Planned) -> None:
    def pictures(seed: int) -> Tensor:
        torch.manual_seed(random.randrange(1000))
        plan = planned(f"seed={seed}", "examples=4", "defenses={random_noise: {}}", "views=[adaptive]")
        return evaluate(clip.image, plan, CLIP_ITSELF).examples[0].tensors["adversarial"]

    first = pictures(0)
    assert torch.equal(first, pictures(0))
    assert not torch.equal(first, pictures(1))


def test_no_global_generator_is_moved(clip: CLIP, planned: Planned) -> None:
    plan = planned("defenses={none: {}, ttc: {calibrate: true}}", "examples=2")
    before = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    evaluate(clip.image, plan, CLIP_ITSELF)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (str(np.random.get_state()), random.getstate())


@pytest.mark.parametrize("fails", [False, True])
def test_the_encoder_is_left_as_it_was(fails: bool, clip: CLIP, planned: Planned) -> None:
    encoder = copy.deepcopy(clip.image).train()
    next(encoder.parameters()).requires_grad_(False)
    encoder.visual.ln_post.eval()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    plan = planned("defenses={none: {}}")

    def state() -> list[bool]:
        return [m.training for m in encoder.modules()] + [p.requires_grad for p in encoder.parameters()]

    before = state()
    assert len(set(before)) == 2
    if fails:
        with pytest.raises(ValueError, match="not finite"):
            evaluate(encoder, behind(plan, NotANumber), CLIP_ITSELF)
    else:
        evaluate(encoder, plan, CLIP_ITSELF)
    assert state() == before
    assert all(p.grad is None for p in encoder.parameters())


def test_without_a_radius_an_attack_finds_the_clean_image(clip: CLIP, planned: Planned) -> None:
    legacy = "clipure_cos_legacy: {name: clipure_cos, mode: legacy}"
    plan = planned("threat.eps=0", f"defenses={{none: {{}}, random_noise: {{}}, ttc: {{}}, {legacy}}}")
    correct = flags(evaluate(clip.image, plan, CLIP_ITSELF))
    assert len(correct) > 10
    for cell, right in correct.items():
        assert right == correct[Cell(cell.defense)]


def test_an_attack_on_the_bare_encoder_is_shared_by_all_defences(clip: CLIP, planned: Planned) -> None:
    plan = planned("defenses={one: {name: none}, two: {name: none}, three: {name: none}}", "views=[transfer]")
    spies = [Spy(clip.image) for _ in range(3)]
    evaluate(clip.image, behind(plan, *(lambda encoder, s=s: s for s in spies)), CLIP_ITSELF)
    looks = [spy.scored() for spy in spies]
    assert [len(look) for look in looks] == [2, 2, 2]  # clean, and attacked
    assert not torch.equal(*looks[0])
    for one, other in pairwise(looks):
        assert torch.equal(one[1], other[1])


def test_the_attacker_never_sees_the_noise_that_it_is_scored_on(clip: CLIP, planned: Planned) -> None:
    plan = planned("defenses={spied: {name: none}}", "views=[adaptive, eot]")
    spy = RandomSpy(clip.image)
    evaluate(clip.image, behind(plan, lambda encoder: spy), CLIP_ITSELF)
    draws = [draw for draw, _ in spy.seen]
    assert draws.count(SCORE_DRAW) == 3  # one look each: clean, adaptive, eot
    attacks = [draw for draw in draws if draw != SCORE_DRAW]
    assert {0, 1, 2, 3} < set(attacks)  # adaptive stays at draw 0, eot goes on to fresh ones
    x = torch.zeros(2, 3)
    with noise.samples(torch.arange(2), draw=0):
        attacked = noise.uniform(x, "any")
    with noise.samples(torch.arange(2), draw=SCORE_DRAW):
        assert not torch.equal(attacked, noise.uniform(x, "any"))


def test_the_released_gradient_of_clipure_overstates_its_robustness(clip: CLIP, planned: Planned) -> None:
    plan = planned(
        "tasks.digits.limit=40",
        "batch_size=40",
        "attacks={apgd: {steps: 8}}",
        "defenses={clipure_cos: {mode: legacy}}",
        "views=[adaptive, released]",
    )
    value = {row.view: row.value for row in evaluate(clip.image, plan, CLIP_ITSELF).results}
    assert value["released"] >= value["adaptive"] + 0.3


def test_the_embedded_model_reads_digits_and_is_not_robust(clip: CLIP, planned: Planned) -> None:
    plan = planned("tasks.digits.limit=null", "defenses={none: {}}", "attacks={apgd: {steps: 20}}", "batch_size=256")
    clean, attacked, _ = evaluate(clip.image, plan, CLIP_ITSELF).results
    assert clean.n == attacked.n == 300
    assert clean.value >= 0.95
    assert attacked.value <= 0.25
