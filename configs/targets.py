"""What is wrong with a fine-tuning's targets, found before anything expensive starts."""

from __future__ import annotations

from typing import Any

from configs.families import OBJECTIVES


def target_faults(tree: Any) -> list[str]:
    """One line per fault of ``data.targets`` in a fine-tuning's plain values."""
    targets = tree["data"]["targets"]
    if targets is None:
        return []
    if not targets.strip():
        return ["data.targets is empty; name a folder, or say data.targets=null"]
    objective = OBJECTIVES.members.get(str((tree["objective"] or {}).get("name")))
    if objective is None or objective.needs_reference:
        return []
    return [f"data.targets: {objective.__name__} never asks the original encoder, so it has no targets; leave it out"]
