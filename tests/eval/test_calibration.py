"""The gate of TTC is set on the tuning split, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from data.images import evaluation_batches
from eval.calibration import calibrate_gate, gate_note
from eval.harness import evaluate
from eval.judge import Judge
from eval.plan import Plan
from eval.rows import Subject
from eval.tasks.classification import ClassificationTask
from modules import noise
from modules.defenses.cosine_gate import CosineGate
from modules.defenses.gates import Direction, GateCalibration
from modules.defenses.ttc import TTC
from modules.encoders.clip import CLIP

Planned = Callable[..., Plan]
GATED = ("defenses={gated: {name: ttc, calibrate: true}}", "views=[transfer]", "tasks.digits.limit=30")


def gate(clip: CLIP, plan: Plan, size: int) -> tuple[TTC, GateCalibration]:
    task = plan.tasks[0]
    assert task.tuning is not None
    defense = TTC(clip.image)
    found = calibrate_gate(
        defense,
        lambda _: ClassificationTask.of(task).classifier(clip.image),
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


@pytest.mark.parametrize(("direction", "word"), [("above", "higher"), ("below", "lower")])
def test_the_note_says_what_the_gate_reads_and_on_which_side_it_opens(direction: Direction, word: str) -> None:
    found = GateCalibration(0.25, direction, 0.9, torch.zeros(1), torch.ones(1), "drift")
    text = gate_note("E", "g", found)["text"]
    assert f"reads the drift and opens {direction} 0.2500" in text
    assert f"attacked images being {word} than that of clean ones has an AUC of 0.90" in text


def test_every_gate_goes_the_same_way(clip: CLIP, planned: Planned) -> None:
    plan = planned("defenses={ttc: {calibrate: true}, cosine_gate: {fpr: 0.1}, csr: {}}", "tasks.digits.limit=30")
    judge = Judge(clip.image, plan, plan.tasks[0], Subject("CLIP"))
    assert [note["title"] for note in judge.notes] == ["CLIP: the gate of ttc", "CLIP: the gate of cosine_gate"]
    gate = judge.defenses["cosine_gate"]
    assert isinstance(gate, CosineGate) and gate.threshold is not None and not gate.calibrate
    with torch.no_grad():
        shut = [gate.gate(batch.x) <= 0 for batch in evaluation_batches(plan.tasks[0].tuning, 7)]  # pyright: ignore[reportArgumentType]
    # of 30 at most a tenth of 31; in other batches rounding decides about the one at the threshold itself
    assert int((~torch.cat(shut)).sum()) in (2, 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["tasks.digits.tune_split=nowhere"], "defenses.gate calibrates on a tuning split, which tasks.digits lacks"),
        (["tasks.digits.limit=10"], "calibrating gate: 10 tuning images cannot set a gate at fpr=0.05"),
    ],
)
def test_a_gate_that_cannot_be_set_is_told_in_one_line(
    settings: list[str], said: str, clip: CLIP, planned: Planned
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        plan = planned("defenses={gate: {name: cosine_gate}}", *settings)
        evaluate(clip.image, plan, Subject("CLIP"))
    assert "\n" not in str(caught.value)


def test_a_task_without_a_tuning_split_is_told_in_one_line(clip: CLIP, planned: Planned) -> None:
    plan = planned("defenses={gate: {name: cosine_gate}}")
    plan.tasks[0].tuning = None  # as of tensors that were handed in
    with pytest.raises(ValueError, match="calibrating gate: tasks.digits has no tuning split; say a threshold"):
        evaluate(clip.image, plan, Subject("CLIP"))
