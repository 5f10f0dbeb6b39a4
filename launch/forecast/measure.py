"""A rate of training, measured: real steps of the recipe on one device here, with made-up weights and samples."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from configs.files import ConfigError
from configs.schema import FinetuneConfig, PerceptualConfig, PriorConfig
from eval.progress import Ticker
from launch.forecast.diffusion import loss, prior_of
from launch.forecast.finetuning import module_of, tower_of
from launch.forecast.triplets import bare_tower
from train.perceptual import training_around
from train.work import images, triplets

_STEPS = 3
M = TypeVar("M", bound=nn.Module)
Trained = FinetuneConfig | PerceptualConfig | PriorConfig
"""Recipes whose training is forecast."""


def measured_rate(config: Trained, samples: int) -> tuple[float, str]:
    """Samples per second on one device here, the quickest of a few steps after one that warms up, and its name.

    Reading data, talking to other processes and judging checkpoints are left out.

    Args:
        config: of the recipe.
        samples: in one pass.

    Raises:
        ConfigError: the device cannot hold it.
    """
    wanted = config.trainer.accelerator
    device = torch.device("cuda" if torch.cuda.is_available() and wanted != "cpu" else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
    with torch.random.fork_rng(), warnings.catch_warnings(), Ticker("measure", _STEPS + 1) as ticker:
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        try:
            seconds = _quickest(_step_of(config, samples, device), device, ticker)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"--measure: {name} cannot hold {samples} samples; try a smaller data.batch_size"
            ) from error
    return samples / seconds, name


def _quickest(step: Callable[[], None], device: torch.device, ticker: Ticker) -> float:
    best = float("inf")
    for number in range(_STEPS + 1):
        begin = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begin) if number else best
        ticker.advance(1)
    return best


def _step_of(config: Trained, samples: int, device: torch.device) -> Callable[[], None]:
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(config.trainer.precision)
    trained, forward = _forward_of(config, samples, device)
    optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=1e-9)

    def step() -> None:
        with torch.autocast(device.type, dtype=half or torch.bfloat16, enabled=half is not None):
            value = forward()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _forward_of(config: Trained, samples: int, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    if isinstance(config, PriorConfig):
        prior = made_up(prior_of(config), device)
        return prior, lambda: loss(prior, config, samples, str(device))
    if isinstance(config, PerceptualConfig):
        tuning = training_around(config, made_up(bare_tower(config), device)).to(device)
        some = triplets(samples, tuning.encoder.image_size, str(device))
        return tuning.encoder, lambda: tuning.training_step(some, 0)
    module = module_of(config, made_up(tower_of(config), device))
    module.reference.to(device)
    batch = images(samples, module.encoder.image_size, str(device))
    return module.encoder, lambda: module.training_step(batch, 0)


def made_up(module: M, device: torch.device) -> M:
    """The module on a device, with small random weights."""
    module = module.to_empty(device=device)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.normal_(0, 0.02).abs_()
    return module
