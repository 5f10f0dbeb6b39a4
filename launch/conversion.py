"""A released prior, from the file of others to one of ours: read, converted, checked and told in a table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from configs.files import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from modules.prior.convert import Converted
    from modules.prior.convert_check import Check, CheckPairs
    from modules.prior.convert_source import Source


@dataclass(frozen=True)
class Wishes:
    """The options of ``robustclip model convert-prior``, as they were typed."""

    check: Path | None = None
    unchecked: bool = False
    config: Path | None = None
    prediction: str | None = None
    source_version: str | None = None
    attention: str | None = None
    weights: str | None = None


def run_conversion(source: Path, target: Path, wishes: Wishes) -> Path:
    """The file written.

    Args:
        source: of DALLE2-pytorch.
        target: to write; a folder gets ``prior.safetensors``.
        wishes: options.

    Raises:
        ConfigError: an option has no such value, the target exists, or the check was neither asked for nor waived.
        ValueError: the source is missing, damaged, refused, does not fit its release, or fails the check.
    """
    target = target / "prior.safetensors" if target.is_dir() else target
    _check_wishes(target, wishes)
    from data.terminal import terminal
    from modules.prior.convert_source import read_source, release_of
    from modules.prior.library_config import LibraryConfig, read_library_config
    from modules.prior.storage import save_prior

    release = release_of(wishes.source_version)
    config = read_library_config(wishes.config) if wishes.config else LibraryConfig()
    pairs, encoder = _pairs(wishes.check) if wishes.check else (None, None)
    found = read_source(source, wishes.weights)  # pyright: ignore[reportArgumentType]
    told: dict[str, Any] = {"release": release, "attention": wishes.attention, "prediction": wishes.prediction}
    if pairs is not None and not wishes.prediction and not config.prediction:
        told["prediction"] = _likeliest(found, config, told, pairs)
    converted, check = _converted(found, config, told, pairs)
    if check is not None:
        check.require(source)
    record = _record(found, converted)
    metadata = {"encoder": encoder, "source": record, "checked": None if check is None else check.record()}
    save_prior(converted.prior, target, **metadata)
    terminal().print(_summary(found, converted, check, config_given=wishes.config is not None))
    print(f"prior: {target}")
    return target


def _check_wishes(target: Path, wishes: Wishes) -> None:
    from modules.prior.attention import AttentionKind
    from modules.prior.convert_source import Weights
    from modules.prior.diffusion import Prediction

    for name, kind in (("attention", AttentionKind), ("prediction", Prediction), ("weights", Weights)):
        value = getattr(wishes, name)
        if value is not None and value not in get_args(kind):
            raise ConfigError(f"unknown --{name} {value!r}; choose one of: {', '.join(get_args(kind))}")
    if wishes.unchecked == (wishes.check is not None):
        raise ConfigError("say --check EMBEDDINGS to try the prior on pairs, or --unchecked to do without")
    if target.exists():
        raise ConfigError(f"{target} exists; name a new file")


def _pairs(folder: Path) -> tuple[CheckPairs, str | None]:
    """Pairs spread over the folder, and the fingerprint of the encoder that made them, where it is known."""
    import torch

    from data.embeddings import EmbeddingShards
    from modules.prior.convert_check import PAIRS, CheckPairs

    shards = EmbeddingShards(folder, values=False)
    count = min(PAIRS, len(shards))
    samples = shards.__getitems__([i * len(shards) // count for i in range(count)])
    texts = [sample.text for sample in samples if sample.text is not None]
    if len(texts) != count:
        raise ConfigError(f"'{folder}' holds captions but no text embeddings; embed the texts too")
    states = [sample.tokens for sample in samples if sample.tokens is not None]
    image, text = (torch.stack(rows).float() for rows in ([sample.image for sample in samples], texts))
    tokens = torch.stack(states).float() if states else None
    return CheckPairs(image, text, tokens), shards.metadata.get("encoder")


def _converted(
    source: Source, config: Any, told: dict[str, Any], pairs: CheckPairs | None
) -> tuple[Converted, Check | None]:
    """The prior, and how it does beside the other attention."""
    from eval.progress import Ticker
    from modules.prior.convert import convert
    from modules.prior.convert_check import Check, similarity

    converted = convert(source, config, **told)
    if pairs is None:
        return converted, None
    chosen = converted.layout.attention
    other = convert(source, config, **{**told, "attention": "dot" if chosen == "cosine" else "cosine"})
    with Ticker("check the prior", 2 * len(pairs.image)) as ticker:
        cosine, cosine_other = (similarity(c.prior, pairs, done=ticker.advance) for c in (converted, other))
    return converted, Check(cosine, cosine_other, len(pairs.image))


def _likeliest(source: Source, config: Any, told: dict[str, Any], pairs: CheckPairs) -> str:
    """The reading of the network's answers under which it predicts images best."""
    from eval.progress import Ticker
    from modules.prior.convert import convert
    from modules.prior.convert_check import similarity
    from modules.prior.diffusion import Prediction

    readings = get_args(Prediction)
    with Ticker("find out what it predicts", len(readings) * len(pairs.image)) as ticker:
        priors = {reading: convert(source, config, **{**told, "prediction": reading}).prior for reading in readings}
        found = {reading: similarity(prior, pairs, done=ticker.advance) for reading, prior in priors.items()}
    return max(readings, key=found.__getitem__)


def _record(source: Source, converted: Converted) -> dict[str, Any]:
    from eval.progress import Ticker
    from modules.prior.layouts import dotted

    digest = hashlib.sha256()
    with Ticker("name the source", source.path.stat().st_size) as ticker, source.path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            ticker.advance(len(block))
    return {
        "sha256": digest.hexdigest(),
        "version": None if converted.release is None else dotted(converted.release),
        "weights": source.weights,
        "step": source.step,
        "layout": converted.layout.releases,
    }


def _summary(source: Source, converted: Converted, check: Check | None, *, config_given: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    from eval.plain_text import plain
    from modules.prior.layouts import dotted

    prior, layout = converted.prior, converted.layout
    network, sizes = prior.net.config(), ("dim", "depth", "heads", "dim_head", "max_text_len")
    difference = converted.schedule_difference
    title = Text(plain(f"{source.path.name}, converted"), style="italic")
    table = Table(title=title, show_header=False, title_justify="left")
    rows = {
        "release": dotted(converted.release) if converted.release else "not said; its names decide",
        "layout": layout.releases,
        "weights": {"ema": "running mean (ema)", "model": "as trained (model)", None: "flat file"}[source.weights],
        "step": "not said" if source.step is None else f"{source.step:,}",
        "attention": layout.attention,
        "missing text": layout.nulls,
        "network": ", ".join(f"{name} {network[name]}" for name in sizes),
        "parameters": f"{sum(p.numel() for p in prior.net.parameters()):,}",
        "schedule": f"{prior.noise_scheduler.kind}, {prior.noise_scheduler.timesteps} steps"
        + ("" if difference is None else f", stored tables within {difference:.1g}"),
        "predicts": prior.prediction,
        "loss": prior.loss + ("" if config_given else " (assumed)"),
        "dropped": ", ".join(f"{count} of {name}" for name, count in converted.dropped.items()) or "nothing",
        "check": "none was made"
        if check is None
        else f"cosine {check.cosine:.3f} on {check.n} pairs, {check.cosine_other:.3f} with the other attention",
    }
    for name, value in rows.items():
        table.add_row(name, Text(plain(value)))
    return table
