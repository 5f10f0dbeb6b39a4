"""What an evaluation of one checkpoint of a training is, wherever it is made: in the training, or beside it."""

from __future__ import annotations

from pathlib import Path

from configs.files import ConfigError
from eval.plan import Plan
from eval.rows import Subject
from modules.encoders.base import ImageEncoder
from modules.encoders.fingerprint import fingerprint


def subject_of_step(name: str, step: int, encoder: ImageEncoder) -> Subject:
    """How the weights of a step are called in the rows."""
    return Subject(name, f"step={step:06d}.ckpt", step, fingerprint(encoder))


def state_of(out: Path, subject: Subject) -> Path:
    """Where unfinished work on a checkpoint lies; whoever goes on with it finds it there."""
    return out / "state" / f"step={subject.step:06d}-{subject.fingerprint}"


def refuse_a_prior_of_one(plan: Plan, words: str = "") -> None:
    """Refuse a prior that can belong to no more than one of the checkpoints.

    Args:
        plan: of the evaluation.
        words: before the names of its settings.

    Raises:
        ConfigError: the plan has such a prior and does not allow it.
    """
    if plan.origin is not None and not plan.config.allow_mismatch:
        raise ConfigError(
            f"every checkpoint of a training is another encoder than the one {plan.origin.path} belongs to; "
            f"leave {words}prior out, or say {words}allow_mismatch=true"
        )
