"""What a defence sets on a tuning split before it is judged: its gate; and what the gate says of clean images there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from data.batches import ImageBatch
from eval.answers import ATTACK_DRAW, Answers, blamed
from eval.progress import Ticker
from modules.attacks.base import Attack, Classifier
from modules.defenses.base import Defense
from modules.defenses.gates import GateCalibration, cut_at

FALSE_ALARMS = (0.01, 0.05)  # shares of clean images, at whose thresholds detection is told


def set_gates(answers: Answers, defenses: Mapping[str, Defense], encoder: str) -> list[dict[str, Any]]:
    """Set the gates that want it, against the plan's first attack through the bare encoder; notes for the report.

    Args:
        answers: asks the encoder.
        defenses: by name.
        encoder: display name.

    Raises:
        ValueError: a gate cannot be set, or there is no tuning split.
    """
    notes = []
    for name, defense in defenses.items():
        if defense.calibrate:
            with blamed(f"calibrating {name}"):
                gate = calibrate_gate(
                    defense,
                    partial(answers.question(answers.encoder).classifier, answers.encoder),
                    next(iter(answers.plan.attacks.values())).attack,
                    _tuning(answers, f"{encoder}: the gate of {name}"),
                    lambda batch: answers.named(batch, ATTACK_DRAW),
                )
            defense.calibrate = False  # who is handed this defence again finds the gate as it was set
            notes.append(gate_note(encoder, name, gate))
    return notes


def cuts_of(answers: Answers, defense: Defense) -> dict[str, float]:
    """Openings of a gate beyond which 1 % and 5 % of clean images lie, as far as the tuning split is large enough.

    Args:
        answers: asks the encoder.
        defense: with a gate.
    """
    if answers.task.tuning is None:
        return {}
    found: list[float] = []
    for batch in _tuning(answers, f"clean images at the gate of {type(defense).__name__}"):
        found += [score for score in answers.scores(defense, batch, batch.x) or [] if score is not None]
    cuts = {f"{100 * fpr:g}": cut_at(fpr, torch.tensor(found, dtype=torch.float64)) for fpr in FALSE_ALARMS}
    return {name: cut for name, cut in cuts.items() if cut is not None}


def _tuning(answers: Answers, title: str) -> Iterator[ImageBatch]:
    tuning = answers.task.tuning
    if tuning is None:
        raise ValueError(f"tasks.{answers.task.dataset} has no tuning split; say a threshold instead of calibrating it")
    with Ticker(title, len(tuning)) as ticker:
        for batch in answers.task.tuning_batches(answers.plan.config.batch_size):
            yield batch.to(answers.device)
            ticker.advance(len(batch))


def calibrate_gate(
    defense: Defense,
    classifier: Callable[[ImageBatch], Classifier],
    attack: Attack,
    batches: Iterable[ImageBatch],
    named: Callable[[ImageBatch], AbstractContextManager[None]],
) -> GateCalibration:
    """The gate that tells the batches' images from the same images under an attack on the bare encoder.

    Args:
        defense: its gate is set.
        classifier: of a batch, the bare encoder with the task's question.
        attack: finds the attacked images.
        batches: of the tuning split.
        named: the noise scope in which a batch is attacked and scored.

    Raises:
        ValueError: the defence has no gate that can be set, or there are too few images.
    """
    clean, attacked = [], []
    for batch in batches:  # scores are kept, images are not
        with named(batch):
            x_adv = attack(classifier(batch), batch.x, batch.y, compact=True)
            clean.append(_scored(defense, batch.x))
            attacked.append(_scored(defense, x_adv))
    return defense.calibrate_gate(torch.cat(clean), torch.cat(attacked))


@torch.no_grad()
def _scored(defense: Defense, x: Tensor) -> Tensor:
    score = defense.gate_score(x)
    if score is None:
        raise ValueError(f"{type(defense).__name__} has no gate that could be calibrated")
    return score


def gate_note(encoder: str, name: str, gate: GateCalibration) -> dict[str, Any]:
    """What the report says and draws about a gate.

    Args:
        encoder: display name.
        name: of the defence in the recipe.
        gate: as it was set.
    """
    side = "higher" if gate.direction == "above" else "lower"
    return {
        "title": f"{encoder}: the gate of {name}",
        "text": (
            f"The gate of {name} reads the {gate.reads} and opens {gate.direction} {gate.tau:.4f}. On the tuning split "
            f"that of attacked images being {side} than that of clean ones has an AUC of {gate.auc:.2f}."
        ),
        "histogram": {
            "title": gate.reads,
            "labels": ["clean", "attacked"],
            "values": [gate.clean.tolist(), gate.attacked.tolist()],
            "threshold": gate.tau,
            "direction": gate.direction,
            "auc": gate.auc,
        },
    }
