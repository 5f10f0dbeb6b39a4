"""The gate of TTC is set on the tuning split, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from data.images import evaluation_batches
from eval.calibration import calibrate_gate, gate_note
from eval.harness import evaluate
from eval.plan import Plan
from eval.rows import Subject
from modules import noise
from modules.defenses.ttc import TTC, GateCalibration
from modules.encoders.clip import CLIP

Planned = Callable[..., Plan]
GATED = ("defenses={gated: {name: ttc, calibrate: true}}", "views=[transfer]", "tasks.digits.limit=30")


def gate(clip: CLIP, plan: Plan, size: int) -> tuple[TTC, GateCalibration]:
    task = plan.tasks[0]
    assert task.tuning is not None
    defense = TTC(clip.image)
    found = calibrate_gate(
        defense,
        task.classifier(clip.image),
        plan.attacks["apgd"].attack,
        evaluation_batches(task.tuning, size),
        lambda batch: noise.samples(noise.keys_of(batch.key)),
    )
    return defense, found


def test_the_gate_is_the_best_cut_between_clean_and_attacked(clip: CLIP, planned: Planned) -> None:
    defense, found = gate(clip, planned(*GATED), 30)
    assert (defense.tau, defense.direction) == (found.tau, found.direction)
    assert len(found.clean) == len(found.attacked) == 30

    def balanced(cut: float, direction: str) -> float:
        caught, alarms = found.attacked > cut, found.clean > cut
        rate = float(caught.double().mean() - alarms.double().mean())
        return rate if direction == "above" else -rate

    at_tau = balanced(found.tau, found.direction)
    assert at_tau > 0
    assert at_tau >= max(balanced(float(v), found.direction) for v in torch.cat([found.clean, found.attacked])) - 1e-9
    assert found.auc >= 0.5


def test_the_gate_does_not_depend_on_the_batch_size(clip: CLIP, planned: Planned) -> None:
    (_, one), (_, other) = (gate(clip, planned(*GATED), size) for size in (30, 7))
    assert one.tau == pytest.approx(other.tau, rel=1e-4)
    torch.testing.assert_close(one.attacked, other.attacked, rtol=1e-3, atol=1e-4)


def test_an_evaluation_tells_how_the_gate_was_set(clip: CLIP, planned: Planned) -> None:
    plan = planned(*GATED)
    (note,) = evaluate(clip.image, plan, Subject("CLIP")).notes
    values = note["histogram"]["values"]
    assert note["title"] == "CLIP: the gate of gated"
    assert [len(side) for side in values] == [30, 30]
    assert f"{note['histogram']['threshold']:.4f}" in note["text"]
    assert evaluate(clip.image, planned("defenses={ttc: {}}", "views=[transfer]"), Subject("CLIP")).notes == []


@pytest.mark.parametrize(("direction", "word"), [("above", "more"), ("below", "less")])
def test_the_note_says_which_side_is_counterattacked(direction: str, word: str) -> None:
    found = GateCalibration(0.25, direction, 0.9, torch.zeros(1), torch.ones(1))  # pyright: ignore[reportArgumentType]
    text = gate_note("E", "g", found)["text"]
    assert f"attacked images drift {word} under noise" in text
    assert f"counterattacks drifts {direction} 0.2500" in text
