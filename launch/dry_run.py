"""``--dry-run``: everything is built but weights and data, and its shapes and sizes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text
from torch import nn

from configs.evaluation import evaluation_config
from configs.families import ATTACKS, METHODS, OBJECTIVES
from configs.load import plain, to_yaml
from configs.schema import EvaluateConfig, ModelConfig, PerceptualConfig, PriorConfig, ScorecardConfig, ThreatConfig
from data.terminal import terminal
from modules.encoders.clip import load_clip
from modules.perceptual.choice import threat_of
from modules.perturb.threat import Threat
from modules.prior.storage import prior_metadata


def show_plan(kind: str, name: str, config: Any) -> None:
    """Print what a recipe would do.

    Raises:
        ValueError: a part cannot be built.
    """
    table = Table(title=Text(f"{kind} {name}", style="italic"), show_header=False)
    rows = {
        "finetune": _finetune_rows,
        "evaluate": _evaluate_rows,
        "scorecard": _scorecard_rows,
        "perceptual": _perceptual_rows,
        "prior": _prior_rows,
        "embed": lambda config: model_rows(config.model),
        "pretrain": lambda config: model_rows(ModelConfig(name="tiny")) + _training_rows(config),
    }[kind](config)
    for label, value in rows:
        table.add_row(label, Text(value))
    console = terminal()
    console.print(table)
    console.print(to_yaml(config), markup=False, highlight=False)


def _count(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,} parameters"


def model_rows(config: ModelConfig) -> list[tuple[str, str]]:
    """What a model is: sizes and counts, for people."""
    clip = load_clip(config.name, config.pretrained, image_size=config.image_size, weights=False)
    size = clip.image.image_size
    return [
        ("model", f"{config.name} {config.pretrained}".strip()),
        ("images", f"[B, 3, {size}, {size}] in [0, 1]"),
        ("embeddings", f"[B, {clip.image.embedding_dim}]"),
        ("image tower", _count(clip.image)),
    ]


def _training_rows(config: Any) -> list[tuple[str, str]]:
    steps, batch = config.optimizer.max_steps, config.data.batch_size * config.trainer.accumulate
    saves = -(-steps // config.trainer.checkpoint_every)
    return [
        ("training", f"{steps:,} steps of {batch} samples = {steps * batch:,} samples"),
        (
            "optimizer",
            f"AdamW, lr {config.optimizer.lr:g}, {config.optimizer.warmup_steps} warm-up steps",
        ),
        ("checkpoints", f"{saves}, one every {config.trainer.checkpoint_every} steps"),
        (
            "devices",
            f"{config.trainer.num_nodes} x {config.trainer.devices} {config.trainer.accelerator}",
        ),
    ]


def _finetune_rows(config: Any) -> list[tuple[str, str]]:
    threat = Threat(config.threat.norm, config.threat.eps)
    rows = model_rows(config.model)
    rows += [
        ("objective", str(OBJECTIVES.settings(config.objective)[0].__name__)),
        ("inner attack", repr(ATTACKS.build(config.attack, threat=threat))),
    ]
    rows += _training_rows(config)
    if config.evaluation is not None:
        rows += _evaluation_rows(evaluation_config(config.evaluation, model=plain(config.model)))
    return rows


def _perceptual_rows(config: PerceptualConfig) -> list[tuple[str, str]]:
    clip = load_clip(config.model.name, config.model.pretrained, image_size=config.model.image_size, weights=False)
    with torch.device("meta"):
        tuned = METHODS.build(config.method, encoder=clip.image)
    trained = sum(parameter.numel() for parameter in tuned.parameters() if parameter.requires_grad)
    attack = "none: clean triplets, as published"
    if config.attack is not None and config.threat is not None:
        threat = threat_of(config.target, Threat(config.threat.norm, config.threat.eps))
        attack = f"{config.target}: {ATTACKS.build(config.attack, threat=threat)!r}"
    rows = [("trained", f"{trained:,} parameters ({config.method['name']})"), ("inner attack", attack)]
    rows = [*model_rows(config.model), *rows, *_training_rows(config)]
    if config.evaluation is not None:
        rows += _evaluation_rows(evaluation_config(config.evaluation, model=plain(config.model)))
    return rows


def ball_of(threat: ThreatConfig) -> str:
    """A threat in words, in the unit in which its radius is given."""
    return f"{threat.norm}, {threat.eps * 255:g}/255" if threat.norm == "linf" else f"{threat.norm}, {threat.eps:g}"


def _evaluate_rows(config: EvaluateConfig) -> list[tuple[str, str]]:
    return model_rows(config.model) + _evaluation_rows(config)


def _evaluation_rows(config: EvaluateConfig) -> list[tuple[str, str]]:
    return [
        (
            "evaluated on",
            ", ".join(f"{n} ({t.shards}, {t.split})" for n, t in config.tasks.items()),
        ),
        ("in the ball", ball_of(config.threat)),
        ("defences", ", ".join(config.defenses)),
        ("attacks", ", ".join(config.attacks)),
        ("views", ", ".join(config.views)),
    ]


def _scorecard_rows(config: ScorecardConfig) -> list[tuple[str, str]]:
    from configs.scorecard import defense_name

    return [
        *model_rows(config.model),
        ("images", f"{config.data.limit or 'all'} of {config.data.shards}, {config.data.split}"),
        ("in the ball", ball_of(config.threat)),
        ("defence", defense_name({"defense": config.defense})),
        ("attacks", ", ".join(config.attacks)),
        ("views", ", ".join(config.views)),
    ]


def _prior_rows(config: PriorConfig) -> list[tuple[str, str]]:
    look, held_out = config.validation, config.data.validation
    rows = [("prior", _prior_sizes(config))]
    if config.model is not None:
        rows += [
            ("computed by", f"{config.model.name} {config.model.pretrained}, what is not stored".replace(" ,", ","))
        ]
    if held_out:
        pairs = f"{held_out:,} held-out pairs" if isinstance(held_out, int) else held_out
        rows.append(("validation", f"{pairs}, every {look.every:,} steps, samples drawn in {look.sample_steps} steps"))
    return [*rows, *_training_rows(config)]


def _prior_sizes(config: PriorConfig) -> str:
    from train.prior import build_prior

    if config.init is not None and not Path(config.init).exists():
        return f"that of init={config.init}, which says its parameters"
    if config.init is not None:
        dims = [prior_metadata(config.init)["config"]["network"]["dim"]]
    else:
        dims = [_embedding_dim(config.model)] if config.model else [512, 768]
    with torch.device("meta"):
        return "; ".join(f"{_count(build_prior(config, dim))} at D = {dim}" for dim in dims)


def _embedding_dim(model: ModelConfig) -> int:
    return load_clip(model.name, model.pretrained, image_size=model.image_size, weights=False).image.embedding_dim
