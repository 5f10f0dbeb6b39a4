"""The harness: what its numbers count, what they depend on, and what they do not."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from eval.harness import Evaluation, evaluate
from eval.outcomes import Cell
from eval.plan import Plan
from eval.rows import Subject
from modules.encoders.clip import CLIP

Planned = Callable[..., Plan]
CLIP_ITSELF = Subject("CLIP")


def flags(found: Evaluation) -> Mapping[Cell, list[bool]]:
    return found.outcomes["digits"].correct


def test_rows_count_what_the_outcomes_say(clip: CLIP, planned: Planned) -> None:
    plan = planned(
        "attacks={apgd: {steps: 3}, pgd: {steps: 2, step_size: 0.01, views: [transfer]}}",
        "defenses={none: {}, random_noise: {}, clipure_cos_legacy: {name: clipure_cos, mode: legacy}}",
        "curve={eps: [0.05], attack: apgd, defenses: [none]}",
    )
    found = evaluate(clip.image, plan, Subject("CLIP", "file.ckpt", 7))
    correct, draws = flags(found), found.outcomes["digits"].draws
    assert len({(r.defense, r.attack, r.view, r.eps, r.metric) for r in found.results}) == len(found.results)
    for row in found.results:
        assert (row.n, row.checkpoint, row.step, row.config) == (20, "file.ckpt", 7, plan.hash)
        if row.attack == "worst":
            others = [c for c in correct if c.defense == row.defense and c.eps in (0.0, plan.threat.eps)]
            count = len(draws[others[0]])
            each = [[all(draws[c][k][i] for c in others) for i in range(20)] for k in range(count)]
            right = sum(all(correct[cell][i] for cell in others) for i in range(20))
            right = sum(map(sum, each)) / count if row.metric.endswith("_mean") else right
            votes = [2 * sum(each[k][i] for k in range(count)) > count for i in range(20)]
            right = sum(votes) if row.metric.endswith("_majority") else right
        else:
            clean, attacked = draws[Cell(row.defense)], draws[Cell(row.defense, row.attack, row.view, row.eps)]
            assert len(clean) == (5 if row.defense == "random_noise" else 1)
            right = sum(clean[k][i] and attacked[k][i] for k in range(len(clean)) for i in range(20)) / len(clean)
        assert row.value == pytest.approx(right / 20)
        assert row.metric.startswith("clean_accuracy" if row.attack == "none" else "robust_accuracy")
        assert row.artefact == ("clipure-legacy" if "legacy" in row.defense else "")
    views = {row.defense: [r.view for r in found.results if r.defense == row.defense] for row in found.results}
    assert views["none"] == ["none", "adaptive", "adaptive", "adaptive", "worst"]  # two attacks and the curve
    assert views["random_noise"] == [
        *("none", "transfer", "transfer", "adaptive", "bpda", "eot"),
        *("worst", "worst", "worst"),  # in every draw, in the mean draw, by majority
    ]
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


def test_without_a_radius_an_attack_finds_the_clean_image(clip: CLIP, planned: Planned) -> None:
    legacy = "clipure_cos_legacy: {name: clipure_cos, mode: legacy}"
    plan = planned("threat.eps=0", f"defenses={{none: {{}}, random_noise: {{}}, ttc: {{}}, {legacy}}}")
    correct = flags(evaluate(clip.image, plan, CLIP_ITSELF))
    assert len(correct) > 10
    for cell, right in correct.items():
        assert right == correct[Cell(cell.defense)]


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
