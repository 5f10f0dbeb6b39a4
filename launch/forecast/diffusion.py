"""The work of a prior's training: one pass of its network forwards and backwards, and towers that complete pairs."""

from __future__ import annotations

import torch

from configs.files import ConfigError
from configs.schema import ModelConfig, PriorConfig
from launch.forecast.work import Part, Work
from modules import noise
from modules.counting import flops_of, growth, imaginary, imagined, kept_bytes
from modules.encoders.clip import load_clip
from modules.prior.diffusion import DiffusionPrior
from modules.prior.pairs import Pairs
from modules.prior.storage import prior_metadata
from train.prior import build_prior

_JPEG = 110_000  # bytes of a picture, on average
_TEXT = 77  # token states of a CLIP


def prior_work(config: PriorConfig) -> Work:
    """What a pair of a recipe costs.

    Texts that are read while training are left out: their tower is small beside the prior.

    Raises:
        ConfigError: neither model nor file says how wide embeddings are.
        ValueError: no such model, or a part cannot be built.
    """
    prior = prior_of(config)
    parts = [Part("prior, forwards and backwards", 1, flops_of(lambda: loss(prior, config, 1, "meta").backward()))]
    stored, towers = _stored_bytes(config, prior.embedding_dim), 0
    if reads_pictures(config):
        assert config.model is not None
        tower = load_clip(config.model.name, config.model.pretrained, weights=False).image.to("meta").freeze()
        x = torch.empty(1, 3, tower.image_size, tower.image_size, device="meta")
        parts.append(Part("image tower, forwards", 1, flops_of(lambda: tower.encode_image(x))))
        towers, stored = sum(parameter.numel() for parameter in tower.parameters()), _JPEG
    kept, once = _activations(config, prior)
    return Work(
        unit="pairs",
        parts=tuple(parts),
        parameters=sum(parameter.numel() for parameter in prior.parameters() if parameter.requires_grad),
        frozen=towers,
        averaged=True,
        kept=kept,
        kept_once=once,
        sample_bytes=stored,
        assumed="assumed for a picture" if towers else _stored_as(config),
        left_out="operations leave out validation, and texts that are read while training",
    )


def prior_of(config: PriorConfig) -> DiffusionPrior:
    """The prior that a recipe trains, without weights or memory, in training mode.

    Raises:
        ConfigError: nothing says how wide embeddings are.
    """
    width = 0 if config.init is not None else _width(config.model)
    with torch.device("meta"):
        if config.init is not None:
            return DiffusionPrior.from_config(prior_metadata(config.init)["config"]).train()
        return build_prior(config, width).train()


def _width(model: ModelConfig | None) -> int:
    if model is None:
        raise ConfigError("the width of the embeddings is unknown; name the CLIP that makes them, model.name=ViT-L-14")
    return load_clip(model.name, model.pretrained, weights=False).image.embedding_dim


def reads_pictures(config: PriorConfig) -> bool:
    """Whether embeddings of pictures are computed while training, as far as the data's name tells."""
    return config.model is not None and config.data.shards.endswith((".tar", "digits"))


def pairs_of(prior: DiffusionPrior, config: PriorConfig, count: int, device: str) -> Pairs:
    """Pairs of the shapes that training has; of values, only that they can be divided by."""
    dim = prior.embedding_dim
    one, states = torch.ones(count, dim, device=device), torch.ones(count, _TEXT, dim, device=device)
    return Pairs(one, one, states if config.data.tokens else None, tuple(map(str, range(count))))


def loss(prior: DiffusionPrior, config: PriorConfig, count: int, device: str) -> torch.Tensor:
    """The mean loss of so many pairs."""
    pairs = pairs_of(prior, config, count, device)
    with noise.samples(noise.keys_of(pairs.key, device=device), seed=config.seed):
        return prior.loss_per_sample(pairs.image, pairs.text, pairs.tokens).mean()


def _activations(config: PriorConfig, prior: DiffusionPrior) -> tuple[int, int]:
    with imagined(config.trainer.precision):
        empty = imaginary(prior)
        return growth(lambda count: kept_bytes(lambda: loss(empty, config, count, "cpu"), [empty]))


def _stored_as(config: PriorConfig) -> str:
    return "embeddings and token states" if config.data.tokens else "embeddings"


def _stored_bytes(config: PriorConfig, dim: int) -> int:
    """Of a pair in single precision."""
    return 4 * dim * (2 + (_TEXT if config.data.tokens else 0))
