"""What recipes of the diffusion prior may say: embed, prior."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from configs.schema.parts import MISSING, DataConfig, ModelConfig, OptimizerConfig, TrainerConfig
from configs.schema.ranges import Amount, Count, File, Positive, Range, Seed, Share


@dataclass
class NetworkConfig:
    """The prior's network; ``modules.prior.network.PriorNetwork`` says what each is."""

    depth: int = 12
    heads: int = 12
    dim_head: int = 64
    max_text_len: int = 77
    ff_mult: int = 4
    normformer: bool = True
    attention: Literal["cosine", "dot"] = "cosine"
    attn_dropout: float = 0.05
    ff_dropout: float = 0.05
    self_cond: bool = False


@dataclass
class DiffusionConfig:
    """The diffusion; ``modules.prior.diffusion.DiffusionPrior`` says what each is."""

    timesteps: int = 1000
    kind: Literal["cosine", "linear", "quadratic", "sigmoid", "jsd"] = "cosine"
    prediction: Literal["x0", "eps", "v"] = "x0"
    loss: Literal["l2", "l1", "huber"] = "l2"
    text_drop: float = 0.1
    image_drop: float = 0.1
    clamp: bool = False


@dataclass
class EMAConfig:
    """The moving average of the prior's weights that is evaluated and exported."""

    beta: float = 0.9999
    every: int = 10
    after: int = 100


@dataclass
class PriorDataConfig:
    """Pairs of images and texts.

    Attributes:
        shards: folder of embedding shards (``robustclip embed``), folder in the layout ``parquet_npy``, or captioned
            images as for ``embed``; what is not stored there is computed while training, by the recipe's ``model``.
        split: of images that have several.
        validation: so many pairs are held out, or a folder of other ones; 0 validates nothing.
        tokens: condition on the states of the text tokens too; false conditions on the text embedding alone.
        skip_bad: train on without pictures that do not decode (counted).
        max_bad, order, window, cache, cache_dir: of pictures, as in DataConfig.
        normalise: scale the embeddings of ``parquet_npy`` to unit length.
        same_encoder: you know that ``model`` made the embeddings of ``parquet_npy``; the prior then belongs to it, and
            to an unknown encoder otherwise.
        batch_size: over all processes.
        workers: reading processes per training process.
    """

    shards: str = MISSING
    split: str = "train"
    validation: int | str = 0
    tokens: bool = True
    skip_bad: bool = False
    max_bad: Share = 0.01
    order: Literal["samples", "shards"] | None = None
    window: Count = 8
    cache: Positive = 100.0
    cache_dir: str | None = None
    normalise: bool = False
    same_encoder: bool = False
    batch_size: Count = 256
    workers: Amount = 0


@dataclass
class ValidationConfig:
    """When and how held-out pairs are looked at.

    Attributes:
        every: optimizer steps; before the first and after the last one too.
        batch_size: pairs at a time on one device; no number but that of unrelated texts depends on it.
        sample_steps: of the embeddings that are drawn for the texts.
        bins: parts of the timesteps whose denoising loss is measured.
    """

    every: Count = 1000
    batch_size: Count = 128
    sample_steps: Annotated[int, Range(least=2)] = 64
    bins: Count = 10


@dataclass
class PriorConfig:
    """``robustclip prior``: a DiffusionPrior learns an encoder's embeddings.

    Attributes:
        model: the CLIP whose embeddings these are; needed where something is computed while training.
        init: file of a prior to go on from, e.g. to adapt it to a fine-tuned encoder.
        network, diffusion: null takes those of ``init``, or the defaults.
    """

    model: ModelConfig | None = None
    init: File | None = None
    network: NetworkConfig | None = None
    diffusion: DiffusionConfig | None = None
    ema: EMAConfig = field(default_factory=EMAConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: PriorDataConfig = field(default_factory=PriorDataConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: Seed = 0


@dataclass
class EmbedDataConfig(DataConfig):
    """Captioned images, or embeddings that exist already, whose captions are encoded anew.

    Attributes:
        shards: images as in DataConfig, a folder in the layout parquet_npy (``data.parquet_npy_layout``), or embedding
            shards that keep captions.
        normalise: scale the embeddings of parquet_npy to unit length; otherwise other lengths are a fault.
        same_encoder: you know that ``model`` made the embeddings of parquet_npy; the shards then name it as their
            encoder, which is unknown otherwise.
    """

    normalise: bool = False
    same_encoder: bool = False


@dataclass
class EmbedConfig:
    """``robustclip embed``: images and captions become embedding shards.

    Attributes:
        text: what is kept of a text beside its embedding: ``tokens``, the text tower's token states (236 kB a pair at
            ViT-L/14); ``caption``, from which training computes them; ``embedding``, nothing.
        device: ``auto`` takes a GPU where there is one.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: EmbedDataConfig = field(default_factory=EmbedDataConfig)
    text: Literal["tokens", "caption", "embedding"] = "tokens"
    device: str = "auto"
