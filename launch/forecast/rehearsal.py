"""One process plays the first of many: a step of the recipe among pretended processes, before any is paid for."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from configs.files import ConfigError
from configs.schema import FinetuneConfig, PerceptualConfig, PriorConfig
from launch.forecast.diffusion import loss, prior_of
from launch.forecast.finetuning import module_of, tower_of
from launch.forecast.measure import Trained
from launch.forecast.shares import equal_shares
from launch.forecast.triplets import bare_tower
from modules.counting import imaginary, imagined
from modules.encoders.tiny import load_tiny
from modules.lightning.sharding import shard
from train.perceptual import training_around
from train.work import images, triplets


def rehearse(config: Trained, processes: int, way: str) -> list[str]:
    """What was tried and held, in words.

    Args:
        config: of the recipe.
        processes: over all nodes.
        way: the strategy.

    Raises:
        ConfigError: the processes cannot share a batch, or a step failed.
    """
    share = equal_shares(config.data.batch_size, processes, seed=config.seed)
    each = f"each of {processes} processes reads" if processes > 1 else "the process reads"
    proven = [f"{each} {share} samples of every batch, and together they read the whole batch once"]
    tried = {
        "the recipe's own model": lambda: _step_without_values(config),
        f"a small model among {processes} pretended processes": lambda: _step_among(config, processes, way),
    }
    for what, step in tried.items():
        try:
            with _quiet():
                step()
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"a step on {what} failed: {reason}") from error
    proven.append("a step of the recipe's own model fits together: attack, loss, gradients (shapes only, no values)")
    if way.startswith("zero"):
        return [*proven, f"not rehearsed: {way}, which needs real processes"]
    return [*proven, f"a step under {way} among {processes} pretended processes, with a small model in its place"]


@contextmanager
def pretended(processes: int) -> Iterator[None]:
    """This process is the first of so many, and what it is told by the others is made up.

    Raises:
        ConfigError: real processes are at work here already.
    """
    if dist.is_initialized():
        raise ConfigError("a rehearsal needs a process of its own; leave out torchrun or srun")
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=processes, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def _step_without_values(config: Trained) -> None:
    """A pass forwards and backwards of the recipe's own model, on tensors without values."""
    if isinstance(config, FinetuneConfig):
        tower = tower_of(config)
        with imagined(config.trainer.precision):
            module = module_of(config, imaginary(tower))
            module.training_step(images(2, tower.image_size), 0).backward()
    elif isinstance(config, PerceptualConfig):
        tower = bare_tower(config)
        with imagined(config.trainer.precision):
            tuning = training_around(config, imaginary(tower))
            tuning.training_step(triplets(2, tower.image_size), 0).backward()
    else:
        prior = prior_of(config)
        with imagined(config.trainer.precision):
            loss(imaginary(prior), config, 2, "cpu").backward()


def _step_among(config: Trained, processes: int, way: str) -> None:
    """A step of a small model with values, spread as the recipe says."""
    with torch.random.fork_rng(devices=[]), pretended(processes):
        torch.manual_seed(0)
        step = _tiny(config)
        if way == "fsdp2":
            mesh = dist.device_mesh.init_device_mesh("cpu", (processes,))
            shard(step.trained, mesh)
        model = _ddp(step) if way == "ddp" else step
        optimizer = torch.optim.AdamW([p for p in step.trained.parameters() if p.requires_grad], lr=0.0)
        for _ in range(config.trainer.accumulate):
            model().backward()
        optimizer.step()


def _tiny(config: Trained) -> _TinyFinetuning | _TinyPerceptual | _TinyPrior:
    if isinstance(config, FinetuneConfig):
        return _TinyFinetuning(config)
    return _TinyPerceptual(config) if isinstance(config, PerceptualConfig) else _TinyPrior(config)


class _TinyFinetuning(nn.Module):
    """The recipe's attack and objective around the embedded model."""

    trained: nn.Module

    def __init__(self, config: FinetuneConfig) -> None:
        super().__init__()
        self.module = module_of(config, load_tiny().image)
        self.trained = cast(nn.Module, self.module.encoder.visual)

    def forward(self) -> Tensor:
        return self.module.training_step(images(2, 32), 0)


class _TinyPerceptual(nn.Module):
    """The recipe's method and attack around the embedded model."""

    trained: nn.Module

    def __init__(self, config: PerceptualConfig) -> None:
        super().__init__()
        self.module = training_around(config, load_tiny().image)
        self.trained = self.module.encoder

    def forward(self) -> Tensor:
        return self.module.training_step(triplets(2, 32), 0)


class _TinyPrior(nn.Module):
    """The recipe's diffusion with one layer."""

    trained: nn.Module

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        small = copy.deepcopy(config)
        small.init = None
        if small.network is not None:
            small.network.depth, small.network.heads, small.network.dim_head = 1, 1, 8
        self.config, self.prior = small, _narrow(small)
        self.trained = self.prior.net

    def forward(self) -> Tensor:
        return loss(self.prior, self.config, 2, "cpu")


def _narrow(config: PriorConfig) -> Any:
    from train.prior import build_prior

    return build_prior(config, 8).train()


def _ddp(step: nn.Module) -> nn.Module:
    """DDP whose sums are this process's own: pretended processes send none."""

    def alone(state: object, bucket: Any) -> Any:
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    # DDP reads the annotations, as types
    alone.__annotations__ = {
        "bucket": dist.GradBucket,  # pyright: ignore[reportPrivateImportUsage]
        "return": torch.futures.Future[Tensor],
    }
    model = nn.parallel.DistributedDataParallel(step)
    model.register_comm_hook(None, alone)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
