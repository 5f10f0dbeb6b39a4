"""Alarms while an encoder trains: does its own attack still find the worst case?"""

from __future__ import annotations

from typing import Any

from eval.answers import ATTACK_DRAW, Answers
from eval.plan import Plan
from modules.encoders.base import ImageEncoder, frozen
from modules.lightning.alarms import Alarm, Probe, alarms, probe
from modules.perturb.losses import cross_entropy


def watch(encoder: ImageEncoder, plan: Plan, earlier: Probe | None) -> tuple[Probe | None, list[Alarm]]:
    """What one step, ten and fifty find on a few images of a plan's first task, and the alarms that follow.

    Args:
        encoder: as it is; its mode and gradient flags are as before afterwards.
        plan: its ``watch`` says how many images; none, or a threat that cannot be probed, raises nothing.
        earlier: of the same encoder, earlier in training.
    """
    if not plan.config.watch or plan.threat.eps == 0 or plan.threat.norm == "l1":
        return None, []
    task = plan.tasks[0]
    answers = Answers(encoder, plan, task)
    batch = next(task.whole_batches(plan.config.watch)).to(answers.device)
    question = answers.question(encoder)
    classifier = question.ascended(encoder, batch) or question.classifier(encoder, batch)
    with frozen(encoder), answers.named(batch, ATTACK_DRAW):
        found = probe(lambda x: cross_entropy(classifier(x), batch.y), batch.x, task.threat(plan.threat))
    return found, alarms(found, earlier)


def alarm_note(encoder: str, step: int, alarm: Alarm) -> dict[str, Any]:
    """What the report says of an alarm."""
    return {"title": f"Alarm at step {step}: {alarm.name} ({encoder})", "text": f"{alarm.text}."}
