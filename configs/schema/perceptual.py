"""What recipes of trainings on triplets may say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from configs.schema.parts import MISSING, ModelConfig, OptimizerConfig, ThreatConfig, TrainerConfig
from configs.schema.ranges import Amount, Count, Seed


@dataclass
class TripletDataConfig:
    """Triplets to learn from.

    Attributes:
        shards: ``digit-triplets``; or a folder: NIGHTS (``data.csv``), BAPPS, or one's own (``triplets.csv``).
        split: of a set that has several.
        framing: ``squash`` scales the whole picture, as the released models see it; ``crop`` cuts the centre out.
        interpolation: filter of the scaling.
        batch_size: triplets, over all processes.
        workers: reading processes per training process.
    """

    shards: str = MISSING
    split: str = "train"
    framing: Literal["crop", "squash"] = "squash"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    batch_size: Count = 32
    workers: Amount = 4


def _published() -> OptimizerConfig:
    return OptimizerConfig(lr=3e-4, weight_decay=0.0, betas=[0.5, 0.999], warmup_steps=0, schedule="constant")


@dataclass
class PerceptualConfig:
    """``robustclip perceptual``: what an encoder finds alike is tuned on triplets that people have judged.

    With ``trainer.keep_best`` the export is the best checkpoint, otherwise the last one.

    Attributes:
        method: ``mlp`` trains a residual head behind the frozen encoder (``hidden``), ``lora`` products beside its
            weights (``rank``, ``alpha``, ``dropout``) that are merged into them in the end.
        margin: of the hinge.
        attack: perturbs the triplets before every step; null trains on clean ones, as published.
        threat: the ball of the attack; null without one.
        target: what the attack may change; ``eps`` holds for each picture.
        encoder: display name of the result.
        evaluation: an evaluation recipe by name under ``recipe``, and what differs from it; null evaluates nothing.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    method: dict[str, Any] = field(default_factory=dict)
    margin: float = 0.05
    attack: dict[str, Any] | None = None
    threat: ThreatConfig | None = None
    target: Literal["reference", "alternatives", "all"] = "reference"
    data: TripletDataConfig = field(default_factory=TripletDataConfig)
    optimizer: OptimizerConfig = field(default_factory=_published)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    encoder: str = "perceptual"
    evaluation: dict[str, Any] | None = None
    seed: Seed = 0
