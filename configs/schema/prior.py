"""What recipes of the diffusion prior may say: embed, prior."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from configs.schema.parts import MISSING, DataConfig, ModelConfig, OptimizerConfig, TrainerConfig


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


@dataclass
class EMAConfig:
    """The moving average of the prior's weights that is evaluated and exported."""

    beta: float = 0.9999
    every: int = 10
    after: int = 100


@dataclass
class PriorDataConfig:
    """Embedding shards that ``robustclip embed`` wrote.

    Attributes:
        shards: their folder.
        batch_size: over all processes.
        workers: reading processes per training process.
    """

    shards: str = MISSING
    batch_size: int = 256
    workers: int = 0


@dataclass
class PriorConfig:
    """``robustclip prior``: a DiffusionPrior learns an encoder's embeddings."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: PriorDataConfig = field(default_factory=PriorDataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0


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
