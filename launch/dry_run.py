"""``--dry-run``: everything is built but weights and data, and its shapes and sizes are told."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from torch import nn

from configs.evaluation import evaluation_config
from configs.families import ATTACKS, OBJECTIVES
from configs.load import plain, to_yaml
from configs.schema import EvaluateConfig, ModelConfig, ScorecardConfig
from modules.encoders.clip import load_clip
from modules.perturb.threat import Threat


def show_plan(kind: str, name: str, config: Any) -> None:
    """Print what a recipe would do.

    Raises:
        ValueError: a part cannot be built.
    """
    table = Table(title=f"{kind} {name}", show_header=False)
    rows = {
        "finetune": _finetune_rows,
        "evaluate": _evaluate_rows,
        "scorecard": _scorecard_rows,
        "prior": _prior_rows,
        "embed": lambda config: _model_rows(config.model),
        "pretrain": lambda config: _model_rows(ModelConfig(name="tiny")) + _training_rows(config),
    }[kind](config)
    for label, value in rows:
        table.add_row(label, value)
    console = Console()
    console.print(table)
    console.print(to_yaml(config), markup=False, highlight=False)


def _count(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,} parameters"


def _model_rows(config: ModelConfig) -> list[tuple[str, str]]:
    clip = load_clip(config.name, config.pretrained, image_size=config.image_size, weights=False)
    size = clip.image.image_size
    return [
        ("model", f"{config.name} {config.pretrained}".strip()),
        ("images", f"[B, 3, {size}, {size}] in \\[0, 1]"),
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
    rows = _model_rows(config.model)
    rows += [
        ("objective", str(OBJECTIVES.settings(config.objective)[0].__name__)),
        ("inner attack", repr(ATTACKS.build(config.attack, threat=threat))),
    ]
    rows += _training_rows(config)
    if config.evaluation is not None:
        rows += _evaluation_rows(evaluation_config(config.evaluation, model=plain(config.model)))
    return rows


def _evaluate_rows(config: EvaluateConfig) -> list[tuple[str, str]]:
    return _model_rows(config.model) + _evaluation_rows(config)


def _evaluation_rows(config: EvaluateConfig) -> list[tuple[str, str]]:
    return [
        (
            "evaluated on",
            ", ".join(f"{n} ({t.shards}, {t.split})" for n, t in config.tasks.items()),
        ),
        ("in the ball", f"{config.threat.norm}, {config.threat.eps * 255:g}/255"),
        ("defences", ", ".join(config.defenses)),
        ("attacks", ", ".join(config.attacks)),
        ("views", ", ".join(config.views)),
    ]


def _scorecard_rows(config: ScorecardConfig) -> list[tuple[str, str]]:
    from configs.scorecard import defense_name

    return [
        *_model_rows(config.model),
        ("images", f"{config.data.limit or 'all'} of {config.data.shards}, {config.data.split}"),
        ("in the ball", f"{config.threat.norm}, {config.threat.eps * 255:g}/255"),
        ("defence", defense_name({"defense": config.defense})),
        ("attacks", ", ".join(config.attacks)),
        ("views", ", ".join(config.views)),
    ]


def _prior_rows(config: Any) -> list[tuple[str, str]]:
    import torch

    from train.prior import build_prior

    with torch.device("meta"):
        sizes = [f"{_count(build_prior(config, dim))} at D = {dim}" for dim in (512, 768)]
    return [("prior", "; ".join(sizes)), *_training_rows(config)]
