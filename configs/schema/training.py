"""What recipes of trainings may say: finetune, pretrain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from configs.schema.parts import DataConfig, ModelConfig, OptimizerConfig, ThreatConfig, TrainerConfig
from configs.schema.ranges import Count, Seed


@dataclass
class FinetuneDataConfig(DataConfig):
    """Images to fine-tune on.

    Attributes:
        targets: folder of the original encoder's embeddings of them, which are made where they are missing, so that no
            step computes them; null computes them in every step.
        stream: read the shards from front to back by webdataset, without indexes: training starts at once, mixes
            within a buffer only, and goes on by passing over what it has seen.
        buffer: samples that each reading process of a stream mixes, kept in memory as they are in the shards.
    """

    targets: str | None = None
    stream: bool = False
    buffer: Count = 1000


@dataclass
class FinetuneConfig:
    """``robustclip finetune``: an encoder becomes a robust one.

    Attributes:
        encoder: display name of the result.
        train_template: prompt of the classes, for objectives that look at labels.
        evaluation: an evaluation recipe by name under ``recipe``, and what differs from it; ``elsewhere: true`` leaves
            it to ``robustclip watch``; null evaluates nothing.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    objective: dict[str, Any] = field(default_factory=dict)
    attack: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: FinetuneDataConfig = field(default_factory=FinetuneDataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    encoder: str = "R-CLIP_F"
    train_template: str = "This is a photo of a {}"
    evaluation: dict[str, Any] | None = None
    seed: Seed = 0


@dataclass
class PretrainConfig:
    """``robustclip pretrain``: the embedded model is trained from scratch."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: Seed = 0
