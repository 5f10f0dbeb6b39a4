"""``robustclip prior``: a DiffusionPrior learns where an encoder's embeddings lie."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning.utilities import rank_zero_only

from configs.files import ConfigError
from configs.priors import refuse_other_structure
from configs.schema import DiffusionConfig, NetworkConfig, PriorConfig
from data.pairs import Pairs
from data.terminal import terminal
from eval.prior_health import health_table
from eval.prior_record import read_record, write_record
from modules import noise
from modules.lightning.prior_training import EMASettings, PriorTraining
from modules.prior.diffusion import DiffusionPrior
from modules.prior.likelihood import reference_likelihood
from modules.prior.network import PriorNetwork
from modules.prior.schedule import NoiseSchedule
from modules.prior.storage import load_prior, save_prior
from train.datamodules import one_pass, whole_batches
from train.prior_pairs import PriorPairs, prior_pairs
from train.runs import Run, identity_of
from train.trainer import fit, optimizer_settings
from train.validation import Validate

EXPORT = "prior.safetensors"
_JUDGED = 1024  # pairs on which the finished prior's likelihood is measured


def build_prior(config: PriorConfig, embedding_dim: int) -> DiffusionPrior:
    """The prior that a recipe starts from, for embeddings of D numbers: an untrained one, or that of ``init``.

    Raises:
        ConfigError: ``init`` has another network, diffusion or width.
        ValueError: ``init`` is not the file of a prior.
    """
    if config.init is None:
        diffusion = asdict(config.diffusion or DiffusionConfig())
        timesteps, kind = diffusion.pop("timesteps"), diffusion.pop("kind")
        settings = asdict(config.network or NetworkConfig())
        network = PriorNetwork(dim=embedding_dim, num_timesteps=timesteps, **settings)
        return DiffusionPrior(network, NoiseSchedule(timesteps=timesteps, kind=kind), **diffusion)
    prior = load_prior(config.init)
    said = {name: value and asdict(value) for name, value in vars(config).items() if name in ("network", "diffusion")}
    refuse_other_structure(said, prior.config(), config.init)
    if prior.embedding_dim != embedding_dim:
        raise ConfigError(
            f"init: {config.init} is for embeddings of {prior.embedding_dim} numbers, the data has {embedding_dim}"
        )
    return prior


def train_prior(run: Run) -> Path:
    """The file of the trained prior: the moving average of its weights.

    Raises:
        ValueError: data, model or ``init`` cannot be read or do not fit together.
    """
    config: PriorConfig = run.config
    export = run.folder / "export" / EXPORT
    if run.finished:
        return export
    begin = time.perf_counter()
    pairs = prior_pairs(config)
    module = build_module(config, pairs)
    facts = {**pairs.facts, **_facts(config, module.prior)}
    validation = _validation(config, pairs.validation)
    write_record(run.folder, facts)
    steps = config.optimizer.max_steps
    trainer = fit(
        module, pairs.train, run, max_steps=steps, title="train the prior", kind="prior", callbacks=validation
    )
    module.make_whole()
    if trainer.is_global_zero:
        module.to(trainer.strategy.root_device)  # Lightning has taken it off the device by now
        found = {
            "validation": read_record(run.folder).last("val/"),
            "likelihood": likelihood_of(module, pairs.validation or pairs.train),
        }
        save_prior(module.ema_prior, export, **identity_of(config, **facts, **found))
        write_record(run.folder, {**facts, **found})
        run.finish({"prior": time.perf_counter() - begin})
    return export


@rank_zero_only
def show_health(folder: Path) -> None:
    """Print the last validation of a run, where it had one."""
    record = read_record(folder)
    values = record.last("val/")
    if values:
        terminal().print(health_table(values, record.measures))


def build_module(config: PriorConfig, pairs: PriorPairs) -> PriorTraining:
    """The LightningModule of a recipe; the moving average starts from where the prior starts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        prior = build_prior(config, pairs.encoder.dim)
    return PriorTraining(
        prior,
        pairs.encoder,
        settings=optimizer_settings(config.optimizer),
        ema=EMASettings(**asdict(config.ema)),
        sample_steps=config.validation.sample_steps,
        bins=config.validation.bins,
        seed=config.seed,
    )


def _validation(config: PriorConfig, source: Pairs | None) -> list[Validate]:
    if source is None:
        return []
    look = config.validation
    return [Validate(source, every=look.every, batch_size=look.batch_size, workers=config.data.workers)]


def _facts(config: PriorConfig, prior: DiffusionPrior) -> dict[str, Any]:
    batch = config.data.batch_size * config.trainer.accumulate
    return {
        "parameters": sum(parameter.numel() for parameter in prior.parameters() if parameter.requires_grad),
        "prediction": prior.prediction,
        "loss": prior.loss,
        "timesteps": prior.noise_scheduler.timesteps,
        "init": config.init,
        "steps": config.optimizer.max_steps,
        "samples_seen": config.optimizer.max_steps * batch,
    }


@torch.no_grad()
def likelihood_of(module: PriorTraining, source: Pairs) -> dict[str, float]:
    """How likely the finished prior finds its own encoder's embeddings, without text: what to measure others against.

    Args:
        module: after training.
        source: pairs of the encoder, held-out ones where there are any; the first ones are looked at.
    """
    device, prior = module.device, module.ema_prior.eval()
    batches = one_pass(source, whole_batches(min(len(source), _JUDGED), 128), workers=0)
    found = [module.pairs.to(device)(batch.to(device)) for batch in batches]
    keys = noise.keys_of([key for pairs in found for key in pairs.key])
    z = F.normalize(torch.cat([pairs.image for pairs in found]), dim=-1)
    with noise.samples(keys):
        return reference_likelihood(prior, z, batch=len(z))
