"""``robustclip prior``: a DiffusionPrior learns where an encoder's embeddings lie."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from configs.schema import PriorConfig
from data.embeddings import EmbeddingShards
from modules.lightning.prior_training import PriorTraining
from modules.prior.diffusion import DiffusionPrior
from modules.prior.network import PriorNetwork
from modules.prior.schedule import NoiseSchedule
from modules.prior.storage import save_prior
from train.runs import Run, identity_of
from train.trainer import fit, optimizer_settings

EXPORT = "prior.safetensors"


def build_prior(config: PriorConfig, embedding_dim: int) -> DiffusionPrior:
    """An untrained prior of a recipe, for embeddings of D numbers."""
    diffusion = asdict(config.diffusion)
    timesteps, kind = diffusion.pop("timesteps"), diffusion.pop("kind")
    network = PriorNetwork(dim=embedding_dim, num_timesteps=timesteps, **asdict(config.network))
    return DiffusionPrior(network, NoiseSchedule(timesteps=timesteps, kind=kind), **diffusion)


def train_prior(run: Run) -> Path:
    """The file of the trained prior: the moving average of its weights.

    Raises:
        ValueError: the embeddings cannot be read or are damaged.
    """
    config: PriorConfig = run.config
    export = run.folder / "export" / EXPORT
    if run.finished:
        return export
    begin = time.perf_counter()
    source = EmbeddingShards(config.data.shards)
    module = PriorTraining(
        build_prior(config, source.dim),
        settings=optimizer_settings(config.optimizer),
        ema_beta=config.ema.beta,
        ema_every=config.ema.every,
        ema_after=config.ema.after,
        seed=config.seed,
    )
    trainer = fit(module, source, run, max_steps=config.optimizer.max_steps, title="train the prior")
    if trainer.is_global_zero:
        save_prior(module.ema_prior, export, **identity_of(config, encoder=source.metadata["encoder"]))
        run.finish({"prior": time.perf_counter() - begin})
    return export
