"""What a recipe of tuning may say: what to search, the rungs that choose, and the report that judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from configs.schema.evaluation import CascadeName, ViewName
from configs.schema.parts import MISSING, ModelConfig, ThreatConfig
from configs.schema.ranges import Amount, Count, File, Seed, Share
from modules.views import View


@dataclass
class TuneDataConfig:
    """Images that choose a setting, and other images that judge it.

    Attributes:
        shards: as in ``DataConfig``.
        split: the images that judge.
        tune_split: the images that choose.
        tune_shards: where those lie, if elsewhere.
        ids: file with the names of the judging images, one a line; null takes all.
        templates: prompts with ``{}``; null takes the set's own.
    """

    shards: str = MISSING
    split: str = "test"
    tune_split: str = "tune"
    tune_shards: str | None = None
    ids: File | None = None
    templates: list[str] | None = None


@dataclass
class RungConfig:
    """A round of the choice: every setting still in it meets the same attacks on the same tuning images.

    Attributes:
        limit: so many images; a later rung's first ones are an earlier rung's; null takes all.
        attacks: by name; ``views`` restricts one to some views.
        keep: the best settings that go on; the last rung keeps the winner.
    """

    limit: Count | None = None
    attacks: dict[str, Any] = field(default_factory=dict)
    keep: int = 1


@dataclass
class JudgedConfig:
    """What the winner and the undefended encoder meet on the judging images.

    Attributes:
        limit: so many images; null takes all.
        attacks: by name.
    """

    limit: Count | None = None
    attacks: dict[str, Any] = field(default_factory=dict)


@dataclass
class TuneConfig:
    """``robustclip tune``: settings of a defence, chosen and judged by their adaptive worst case.

    Attributes:
        data: the images.
        defense: a component with the settings that are not searched.
        search: values to try, by the defence's keyword; together they are the grid.
        trials: so many settings of the grid, a random choice by ``seed``; 0 takes all.
        rungs: rounds of the choice by name, in order.
        report: what the winner and the undefended encoder meet in the end.
        max_clean_drop: a setting may lose this much clean accuracy against the undefended encoder, as a fraction.
        views: the views to take, of those that the defence has.
        eot_draws, score_draws, cascade: as for an evaluation.
        prior: file of the DiffusionPrior that ``clipure_diff`` uses.
        allow_mismatch: use the prior although it belongs to another encoder; every row says so.
        blank_prompt: the class-free prompt that conditions it.
        encoder: display name.
        batch_size: images per forward pass; no number depends on it.
        examples: images to show in the report of the judged images.
        device: ``auto`` takes a GPU where there is one.
        seed: of the noise and of the choice of trials.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    data: TuneDataConfig = field(default_factory=TuneDataConfig)
    defense: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    trials: Amount = 0
    rungs: dict[str, RungConfig] = field(default_factory=dict)
    report: JudgedConfig = field(default_factory=JudgedConfig)
    max_clean_drop: Share = 0.05
    views: list[ViewName] = field(default_factory=lambda: [view.value for view in View])
    eot_draws: int = 4
    score_draws: Count = 5
    cascade: CascadeName = "all"
    prior: File | None = None
    allow_mismatch: bool = False
    blank_prompt: str = "a photo of a."
    encoder: str = "CLIP"
    batch_size: Count = 64
    examples: Amount = 0
    device: str = "auto"
    seed: Seed = 0
