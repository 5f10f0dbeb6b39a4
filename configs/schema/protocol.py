"""What a protocol says: which sets, how many images, which attacks, and what nobody knows of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from configs.schema.evaluation import ViewName
from configs.schema.parts import MISSING, ModelConfig
from configs.schema.ranges import Count, File, Positive, Seed
from modules.units import Pixels


@dataclass
class ProtocolSetConfig:
    """One data set of a protocol.

    Attributes:
        dataset: of the catalog, such as ``fare/cifar10``.
        attacks: instead of the protocol's, where the set cannot have them.
        shards: where it lies; null finds it under ``data``.
        ids: file of the list of images that the set is judged on; null takes the protocol's ``ids``.
        first: the first so many images of that list; null takes the part's.
        templates: instead of the set's.
    """

    dataset: str = MISSING
    attacks: dict[str, Any] | None = None
    shards: str | None = None
    ids: File | None = None
    first: Count | None = None
    templates: list[str] | None = None


@dataclass
class ProtocolPartConfig:
    """Data sets that are judged in the same way.

    Attributes:
        sets: by name in the results, in the protocol's order.
        norm: of the threat.
        eps: radii in [0, 1] pixels; each is an evaluation of its own.
        first: the first so many images of a set, or of its list; null takes all.
        limit: so many images, a fixed fair choice; null takes all.
        attacked: attacks run on so many of them, a fixed fair choice, while clean accuracy is of all; null attacks all.
        logit_scale: factor on cosines; null takes the model's own.
        average: whether the unweighted average over the sets means something.
    """

    sets: dict[str, ProtocolSetConfig] = field(default_factory=dict)
    norm: Literal["linf", "l2", "l1"] = "linf"
    eps: list[Pixels] = field(default_factory=list)
    first: Count | None = None
    limit: Count | None = None
    attacked: Count | None = None
    logit_scale: Positive | None = None
    average: bool = False


@dataclass
class AdaptiveConfig:
    """What we add for every defence: attacks through it, on a few images.

    Attributes:
        limit: so many images, a fixed fair choice of those attacked.
        attacks: by name; none adds nothing.
        views: as for an evaluation.
        eot_draws: as for an evaluation.
        score_draws: as for an evaluation.
        probes: images on which gradients and values are examined.
    """

    limit: Count = 500
    attacks: dict[str, Any] = field(default_factory=dict)
    views: list[ViewName] = field(default_factory=list)
    eot_draws: int = 20
    score_draws: Count = 5
    probes: Count = 16


@dataclass
class BaseModelConfig:
    """The model of the published numbers: ``name`` and ``pretrained`` of open_clip; empty where it may be any."""

    name: str = ""
    pretrained: str = ""


@dataclass
class ProtocolConfig:
    """``robustclip evaluate CHECKPOINT --protocol NAME``: published settings, and where data and device are.

    Attributes:
        title: for people.
        source: whose protocol it is.
        base: model of the published numbers.
        model: that is judged.
        parts: by name.
        defenses, attacks, views, eot_draws, score_draws: as for an evaluation.
        adaptive: what we add for every defence.
        systems: how published tables call a defence of ours.
        precision, batch, resolution, templates: in words, of what was published.
        differs: what is otherwise here, in words.
        unknown: what nobody knows of the published numbers, in words.
        seed: of everything random.
        prior: file of the DiffusionPrior that ``clipure_diff`` uses.
        allow_mismatch: use the prior although it belongs to another encoder; every row says so.
        blank_prompt: the class-free prompt that conditions it.
        data: folder under which the sets are found.
        ids: file of the list of images, for sets that are judged on one.
        only: names of sets, separated by commas; the others are left out.
        skip_missing: leave out sets that are not found.
        allow_count_mismatch: take sets with other numbers of images or classes; every row says so.
        system: how published tables call these weights, such as ``FARE4``.
        encoder: display name.
        batch_size: images per forward pass; no number depends on it.
        device: ``auto`` takes a GPU where there is one.
    """

    title: str = MISSING
    source: str = MISSING
    base: BaseModelConfig = field(default_factory=BaseModelConfig)
    model: ModelConfig = field(default_factory=lambda: ModelConfig(name=""))
    parts: dict[str, ProtocolPartConfig] = field(default_factory=dict)
    defenses: dict[str, Any] = field(default_factory=lambda: {"none": {}})
    attacks: dict[str, Any] = field(default_factory=dict)
    views: list[ViewName] = field(default_factory=list)
    eot_draws: int = 20
    score_draws: Count = 5
    adaptive: AdaptiveConfig = field(default_factory=AdaptiveConfig)
    systems: dict[str, list[str]] = field(default_factory=dict)
    precision: str = ""
    batch: str = ""
    resolution: str = ""
    templates: str = ""
    differs: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    seed: Seed = 0
    prior: File | None = None
    allow_mismatch: bool = False
    blank_prompt: str = "a photo of a."
    data: File | None = None
    ids: File | None = None
    only: Any = None
    skip_missing: bool = False
    allow_count_mismatch: bool = False
    system: str | None = None
    encoder: str = "CLIP"
    batch_size: Count = 64
    device: str = "auto"
