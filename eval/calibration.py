"""What a defence sets on a tuning split before it is judged: the gate of TTC."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from data.batches import ImageBatch
from modules.attacks.base import Attack, Classifier
from modules.defenses.ttc import TTC, GateCalibration


def calibrate_gate(
    defense: TTC,
    classifier: Classifier,
    attack: Attack,
    batches: Iterable[ImageBatch],
    named: Callable[[ImageBatch], AbstractContextManager[None]],
) -> GateCalibration:
    """The gate that tells the batches' images from the same images under an attack on the bare encoder.

    Args:
        defense: its gate is set.
        classifier: the bare encoder with the task's head.
        attack: finds the attacked images.
        batches: of the tuning split.
        named: the noise scope in which a batch is attacked and drifts.
    """
    clean, attacked = [], []
    for batch in batches:  # drifts are kept, images are not
        with named(batch):
            x_adv = attack(classifier, batch.x, batch.y, compact=True)
            with torch.no_grad():
                clean.append(defense.probe(batch.x)[2])
                attacked.append(defense.probe(x_adv)[2])
    return defense.calibrate_gate(torch.cat(clean), torch.cat(attacked))


def gate_note(encoder: str, name: str, gate: GateCalibration) -> dict[str, Any]:
    """What the report says and draws about a gate.

    Args:
        encoder: display name.
        name: of the defence in the recipe.
        gate: as it was set.
    """
    side = "more" if gate.direction == "above" else "less"
    return {
        "title": f"{encoder}: the gate of {name}",
        "text": (
            f"On the tuning split, attacked images drift {side} under noise than clean ones (AUC {gate.auc:.2f}); "
            f"the gate counterattacks drifts {gate.direction} {gate.tau:.4f}."
        ),
        "histogram": {
            "title": "embedding drift under noise",
            "labels": ["clean", "attacked"],
            "values": [gate.clean.tolist(), gate.attacked.tolist()],
            "threshold": gate.tau,
            "direction": gate.direction,
            "auc": gate.auc,
        },
    }
