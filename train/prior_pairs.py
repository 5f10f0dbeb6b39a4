"""What a prior learns from: a recipe's pairs, a held-out part of them, and the towers that complete them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from configs.files import ConfigError
from configs.schema import PriorConfig
from data.home import at_home
from data.manifest import MANIFEST
from data.pairs import Pairs, hold_out, open_pairs
from data.parquet_npy_layout import is_parquet_npy
from data.source import ImageSource
from eval.evaluate import fingerprint, load_model
from eval.framing import framing_of
from modules.encoders.clip import CLIP, load_clip
from modules.prior.pair_encoder import PairEncoder
from train.datamodules import reading_of


@dataclass(frozen=True)
class PriorPairs:
    """The data of a prior's training.

    Attributes:
        train: pairs to learn from.
        validation: pairs that are never learned from; None where none are held out.
        encoder: completes batches of both.
        facts: plain values about them, for the file and the report; ``encoder`` is the image encoder's fingerprint.
    """

    train: Pairs
    validation: Pairs | None
    encoder: PairEncoder
    facts: dict[str, Any]


def prior_pairs(config: PriorConfig) -> PriorPairs:
    """The pairs of a recipe, opened, and completed by the recipe's model where something is not stored.

    Raises:
        ConfigError: something has to be computed and no model is named, or the model, the pairs and the validation's
            pairs are not of one encoder.
        ValueError: the data cannot be read.
    """
    source = _open(config, config.data.shards)
    _refuse_other_model(source, config)
    train, validation = source, None
    if isinstance(config.data.validation, str):
        validation = _open(config, config.data.validation)
        _refuse_other_encoder(source, validation, config)
    elif config.data.validation:
        try:
            train, validation = hold_out(source, config.data.validation, seed=config.seed)
        except ValueError as error:
            raise ConfigError(f"data.validation: {error}") from error
    lacking = {what for part in (source, validation) if part is not None for what in _lacking(part, config)}
    clip = _towers(config, source, lacking)
    of_images = clip is not None and "image embeddings" in lacking
    encoder = PairEncoder(
        clip.image if clip and of_images else None,
        clip.text if clip and lacking - {"image embeddings"} else None,
        dim=clip.image.embedding_dim if clip and isinstance(source, ImageSource) else _dim(source),
        tokens=config.data.tokens,
    )
    name = fingerprint(clip.image) if clip and of_images else _metadata(source).get("encoder")
    if name is None and config.model is not None and config.data.same_encoder:
        name = fingerprint((clip or load_model(config.model)).image)
    return PriorPairs(train, validation, encoder, _facts(config, train, validation, encoder, lacking, name))


def _open(config: PriorConfig, where: str) -> Pairs:
    data, model, folder = config.data, config.model, at_home(where)
    framing = None
    if not ((folder / MANIFEST).is_file() or is_parquet_npy(folder)):  # pictures: what size they are to have
        if model is None:
            raise ConfigError(
                f"{where} is no folder of embeddings; to learn from pictures, name the CLIP whose embeddings the prior "
                "is for, such as model.name=ViT-L-14 model.pretrained=openai"
            )
        clip = load_clip(model.name, model.pretrained, image_size=model.image_size, weights=False)
        framing = framing_of(clip.image)
    return open_pairs(
        where, data.split, framing, skip_bad=data.skip_bad, normalise=data.normalise, reading=reading_of(data)
    )


def _lacking(source: Pairs, config: PriorConfig) -> set[str]:
    """What of its pairs a source does not hold."""
    if isinstance(source, ImageSource):
        return {"image embeddings", "text embeddings"} | ({"token states"} if config.data.tokens else set())
    wanted = {"text": "text embeddings"} | ({"tokens": "token states"} if config.data.tokens else {})
    lacking = {what for name, what in wanted.items() if name not in source.shapes}
    if lacking and not source.has_captions:
        remedy = " or condition on the text embedding alone with data.tokens=false" if "text" in source.shapes else ""
        raise ConfigError(
            f"{config.data.shards} holds neither {' nor '.join(sorted(lacking))} nor captions to make them from; "
            f"embed again{remedy}"
        )
    return lacking


def _towers(config: PriorConfig, source: Pairs, lacking: set[str]) -> CLIP | None:
    """The CLIP that computes what is lacking; None where nothing is."""
    if not lacking:
        return None
    if config.model is None:
        example = _overrides(_metadata(source).get("base") or {"name": "ViT-L-14", "pretrained": "openai"})
        raise ConfigError(
            f"{config.data.shards} does not hold {' and '.join(sorted(lacking))}, which are then computed while "
            f"training: name the CLIP, such as {example}"
        )
    clip = load_model(config.model)
    dim = clip.image.embedding_dim
    if not isinstance(source, ImageSource) and source.dim != dim:
        raise ConfigError(
            f"{config.data.shards} holds embeddings of {source.dim} numbers, {config.model.name} gives {dim}"
        )
    return clip


def _refuse_other_model(source: Pairs, config: PriorConfig) -> None:
    base, model = _metadata(source).get("base"), config.model
    if base and model is not None and base != {"name": model.name, "pretrained": model.pretrained}:
        raise ConfigError(
            f"{config.data.shards} was embedded by another model than {model.name}; say {_overrides(base)}"
        )


def _overrides(base: dict[str, str]) -> str:
    return " ".join(f"model.{key}={value}" for key, value in base.items() if value)


def _refuse_other_encoder(source: Pairs, validation: Pairs, config: PriorConfig) -> None:
    whose = [_metadata(part).get("encoder") for part in (source, validation)]
    if None not in whose and whose[0] != whose[1]:
        raise ConfigError(
            f"data.validation: {config.data.validation} was made by encoder {whose[1]}, {config.data.shards} by "
            f"{whose[0]}; embed it again"
        )
    if isinstance(source, ImageSource) != isinstance(validation, ImageSource):
        raise ConfigError("data.validation and data.shards must both hold images, or both embeddings")
    if not isinstance(source, ImageSource) and _dim(source) != _dim(validation):
        raise ConfigError(f"data.validation: embeddings of {_dim(validation)} numbers, not {_dim(source)}")


def _metadata(source: Pairs) -> dict[str, Any]:
    return {} if isinstance(source, ImageSource) else source.metadata


def _dim(source: Pairs) -> int:
    assert not isinstance(source, ImageSource)
    return source.dim


def _facts(
    config: PriorConfig,
    train: Pairs,
    validation: Pairs | None,
    encoder: PairEncoder,
    lacking: set[str],
    name: str | None,
) -> dict[str, Any]:
    model, stored = config.model, _metadata(train)
    said = {"name": model.name, "pretrained": model.pretrained} if model else None
    return {
        "encoder": name,
        "base": stored.get("base") or said,
        "checkpoint": model.checkpoint if model and name and not stored.get("encoder") else None,
        "dim": encoder.dim,
        "data": {
            "shards": config.data.shards,
            "kind": "images" if isinstance(train, ImageSource) else "embeddings",
            "of": stored.get("data"),
            "pairs": len(train),
            "held_out": len(validation) if validation is not None else 0,
            "validation": config.data.validation if isinstance(config.data.validation, str) else None,
            "computed": sorted(lacking),
            "tokens": config.data.tokens,
        },
    }
