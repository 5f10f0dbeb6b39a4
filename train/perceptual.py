"""``robustclip perceptual``: what an encoder finds alike is tuned on triplets, its checkpoints are judged by 2AFC."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from configs.evaluation import evaluation_config
from configs.families import ATTACKS, METHODS
from configs.load import plain
from configs.schema import PerceptualConfig, TripletDataConfig
from data.framing import MODES, Framing
from data.layouts.triplet_files import open_triplets
from data.triplets import TripletImages
from eval.callback import EvaluateCheckpoints
from eval.evaluate import fingerprint, load_model
from eval.plan import build_plan
from modules.checkpoint import read_state, save_tower
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIPEncoder
from modules.lightning.perceptual_training import PerceptualTraining
from modules.perceptual.choice import threat_of
from modules.perceptual.head_file import save_head
from modules.perceptual.low_rank import LowRankEncoder
from modules.perceptual.residual_head import ResidualHead
from modules.perturb.threat import Threat
from train.best import FILE as BEST
from train.runs import Run, identity_of
from train.trainer import fit, optimizer_settings

EXPORT = {"lora": "encoder.safetensors", "mlp": "head.safetensors"}


def perceptual(run: Run) -> Path:
    """The file of the tuned image tower (LoRA, merged) or of the head behind the frozen one.

    Build, build, build, fit, export.  A run that was interrupted goes on from its newest checkpoint.

    Raises:
        ValueError: model, data or evaluation cannot be built; the line says which and why.
    """
    config: PerceptualConfig = run.config
    export = run.folder / "export" / EXPORT[config.method["name"]]
    if run.finished:
        return export
    begin = time.perf_counter()

    clip = load_model(config.model)
    source = training_triplets(config.data, clip.image.image_size)
    module = build_perceptual(config, clip.image)
    callbacks: list[Callback] = []
    if config.evaluation is not None:
        plan = build_plan(evaluation_config(config.evaluation, model=plain(config.model)), clip)
        every = config.trainer.checkpoint_every
        callbacks.append(EvaluateCheckpoints(plan, run.folder, name=config.encoder, every=every))

    trainer = fit(
        module,
        source,
        run,
        max_steps=config.optimizer.max_steps,
        title=f"tune {config.encoder}",
        kind="perceptual",
        callbacks=callbacks,
    )
    if trainer.is_global_zero:
        write_export(module, export, step=take_best(module, run))
        run.finish({"perceptual": time.perf_counter() - begin})
    return export


def training_triplets(config: TripletDataConfig, image_size: int) -> TripletImages:
    """The triplets of a training.

    Raises:
        ValueError: nothing there, or not what it should be.
    """
    found = open_triplets(config.shards, config.split)
    framing = Framing(image_size, interpolation=config.interpolation, mode=MODES[config.framing])
    return TripletImages(found, framing, name=config.shards)


def build_perceptual(config: PerceptualConfig, encoder: ImageEncoder) -> PerceptualTraining:
    """The LightningModule of a recipe.

    Raises:
        ValueError: the tower has nothing that LoRA could stand beside.
    """
    return training_around(config, encoder, identity=_identity(config, encoder))


def training_around(
    config: PerceptualConfig, encoder: ImageEncoder, *, identity: dict[str, Any] | None = None
) -> PerceptualTraining:
    """The LightningModule of a recipe around any encoder, also one without values.

    Args:
        config: of the recipe.
        encoder: frozen here; the recipe's method stands behind or beside it.
        identity: plain values that say what the weights are.

    Raises:
        ValueError: the tower has nothing that LoRA could stand beside.
    """
    with torch.random.fork_rng(devices=[]):  # first weights are the recipe's, whatever was drawn before
        torch.manual_seed(config.seed)
        tuned = METHODS.build(config.method, encoder=encoder)
    attack, threat = None, config.threat
    if config.attack is not None and threat is not None:
        attack = ATTACKS.build(config.attack, threat=threat_of(config.target, Threat(threat.norm, threat.eps)))
    return PerceptualTraining(
        tuned,
        attack,
        settings=optimizer_settings(config.optimizer),
        margin=config.margin,
        target=config.target,
        seed=config.seed,
        identity=identity,
    )


def _identity(config: PerceptualConfig, encoder: ImageEncoder) -> dict[str, Any]:
    model, threat = config.model, config.threat
    _, settings = METHODS.settings(config.method)
    return identity_of(
        config,
        encoder=config.encoder,
        base={"name": model.name, "pretrained": model.pretrained},
        **({"checkpoint": Path(model.checkpoint).name} if model.checkpoint else {}),
        image_size=encoder.image_size,
        started_from=fingerprint(encoder),
        objective="2afc",
        method={"name": config.method["name"], **settings},
        **({"threat": {"norm": threat.norm, "eps": threat.eps, "target": config.target}} if threat else {}),
    )


def take_best(module: PerceptualTraining, run: Run) -> int:
    """The step whose weights the module then holds: the best checkpoint's where one was asked for, or the last."""
    file = run.checkpoints / BEST
    if run.config.trainer.keep_best is None or not file.is_file():
        return run.config.optimizer.max_steps
    best = json.loads(file.read_text(encoding="utf-8"))
    state, _ = read_state(run.checkpoints / best["checkpoint"])
    module.load_state_dict(state, strict=False)
    print(f"exporting step {best['step']}, the best by {best['metric']}: {best['value']:.4g}", flush=True)
    return int(best["step"])


def write_export(module: PerceptualTraining, path: Path, *, step: int) -> Path:
    """Write the head, or the tower with LoRA merged into it; the module is done with then."""
    tuned = module.encoder
    if isinstance(tuned, ResidualHead):
        return save_head(tuned, path, step=step, name=module.identity["encoder"], **module.identity)
    assert isinstance(tuned, LowRankEncoder)
    encoder = tuned.merged()
    assert isinstance(encoder, CLIPEncoder)
    return save_tower(encoder.visual, path, step=step, **module.identity)
