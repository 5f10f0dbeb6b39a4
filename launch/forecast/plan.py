"""The forecast of one recipe: all its numbers, before anybody prints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from configs.files import ConfigError
from configs.load import load_config, read_recipe, recipe_names
from configs.overrides import in_full, key_of, keys_of
from launch.forecast.hours import hours_by_operations, hours_by_rate, peak_of
from launch.forecast.memory import WAYS, Memory, memory_of
from launch.forecast.shares import equal_shares
from launch.forecast.work import Work
from launch.job import NOT_SAID
from train.peaks import PEAK_TFLOPS

_SHORT = {"nodes": "trainer.num_nodes", "devices": "trainer.devices", "gpus": "trainer.devices"}


@dataclass(frozen=True)
class Rates:
    """What is known or assumed of speed.

    Attributes:
        gpu: name of a GPU.
        tflops: rate of one GPU at its best, instead of its name.
        mfu: share of that rate which is reached.
        throughput: samples per second of all GPUs together.
        measure: run steps here.
        sample_kb: of a stored sample.
    """

    gpu: str | None = None
    tflops: float | None = None
    mfu: float = 0.4
    throughput: float | None = None
    measure: bool = False
    sample_kb: float | None = None

    @property
    def peaks(self) -> dict[str, float]:
        """Peak rates by the name of the GPU: what is said, or all that are known where nothing is."""
        if self.tflops is not None:
            return {"GPU": self.tflops}
        if self.gpu is not None:
            return {self.gpu.lower(): peak_of(self.gpu)}
        return {} if self.measure or self.throughput is not None else PEAK_TFLOPS


@dataclass(frozen=True)
class Forecast:
    """Numbers of a training.

    Attributes:
        kind, name: of the recipe.
        config: checked.
        work: of one sample.
        way: the strategy that will run.
        nodes, devices: processes are nodes x devices.
        share: samples that a GPU takes in one pass.
        memory: of a GPU, by strategy.
        hours: (how it is known, hours).
        by_peak: hours are told from vendors' peak rates.
        sample_bytes: of a stored sample.
    """

    kind: str
    name: str
    config: Any
    work: Work
    way: str
    nodes: int
    devices: int
    share: int
    memory: dict[str, Memory]
    hours: list[tuple[str, float]]
    by_peak: bool
    sample_bytes: float

    @property
    def samples(self) -> int:
        """Of the whole training."""
        config = self.config
        return config.optimizer.max_steps * config.data.batch_size * config.trainer.accumulate

    @property
    def saves(self) -> int:
        """Checkpoints that are written."""
        return -(-self.config.optimizer.max_steps // self.config.trainer.checkpoint_every)

    @property
    def kept(self) -> int:
        """Checkpoints that lie on the disk at once: before an old one goes, the new one stands."""
        keep = self.config.trainer.keep
        return self.saves if keep < 1 else min(self.saves, keep + 1)

    @property
    def disk_bytes(self) -> int:
        """Of checkpoints and the finished weights."""
        return self.kept * self.work.checkpoint_bytes + self.work.export_bytes


def forecast(recipe: str, words: Sequence[str], rates: Rates) -> Forecast:
    """The forecast of a recipe.

    Args:
        recipe: a shipped one's name, or a file.
        words: key=value; ``nodes`` and ``devices`` for those of the trainer.
        rates: of speed.

    Raises:
        ConfigError: every fault of the recipe; a batch that the processes cannot share; a rate that cannot be.
        ValueError: the model cannot be built.
    """
    kind = kind_of(recipe)
    config = load_config(kind, recipe, _whole(kind, words))
    _check(rates)
    nodes, devices = config.trainer.num_nodes, _devices(config.trainer.devices)
    share = equal_shares(config.data.batch_size, nodes * devices, seed=config.seed)
    work = _work(kind, config)
    found = Forecast(
        kind=kind,
        name=Path(recipe).stem,
        config=config,
        work=work,
        way="ddp" if config.trainer.strategy == "auto" else config.trainer.strategy,
        nodes=nodes,
        devices=devices,
        share=share,
        memory={way: memory_of(work, way, processes=nodes * devices, samples=share) for way in WAYS[kind]},
        hours=[],
        by_peak=rates.tflops is None and bool(rates.peaks),
        sample_bytes=work.sample_bytes if rates.sample_kb is None else 1000 * rates.sample_kb,
    )
    return replace(found, hours=_hours(found, rates, nodes * devices))


def kind_of(recipe: str) -> str:
    """``finetune``, ``perceptual`` or ``prior``.

    Raises:
        ConfigError: none of them.
    """
    if not recipe.endswith((".yaml", ".yml")):
        for kind in WAYS:
            if recipe in recipe_names(kind):
                return kind
        known = [name for kind in WAYS for name in recipe_names(kind)]
        near = ", ".join(get_close_matches(recipe, known, n=4, cutoff=0.4) or known)
        raise ConfigError(f"no training has the recipe {recipe!r}; choose one of: {near}, or a .yaml file")
    said = read_recipe("finetune", recipe)
    telling = {"objective": "finetune", "method": "perceptual"}
    return next((kind for key, kind in telling.items() if key in said), "prior")


def _whole(kind: str, words: Sequence[str]) -> list[str]:
    """The overrides, short names told in full; where no data is said, it makes no difference."""
    told = in_full(kind, [f"{_SHORT.get(key_of(word), key_of(word))}{word[len(key_of(word)) :]}" for word in words])
    return told if "data.shards" in keys_of(told) else [*told, f"data.shards={NOT_SAID}"]


def _devices(said: int | str) -> int:
    if said == "auto":
        return 1
    if str(said).isdigit() and int(said) > 0:
        return int(said)
    raise ConfigError(f"trainer.devices is {said!r}; a plan needs a number of GPUs per node, such as devices=8")


def _check(rates: Rates) -> None:
    """Rates are refused before anything is built."""
    if rates.gpu is not None:
        peak_of(rates.gpu)
    hours_by_operations(0.0, gpus=1, tflops=1.0 if rates.tflops is None else rates.tflops, share=rates.mfu)
    if rates.throughput is not None:
        hours_by_rate(0.0, rates.throughput)
    if rates.sample_kb is not None and rates.sample_kb <= 0:
        raise ConfigError(f"--sample-kb {rates.sample_kb}: must be above 0")


def _work(kind: str, config: Any) -> Work:
    if kind == "finetune":
        from launch.forecast.finetuning import finetuning_work

        return finetuning_work(config)
    if kind == "perceptual":
        from launch.forecast.triplets import perceptual_work

        return perceptual_work(config)
    from launch.forecast.diffusion import prior_work

    return prior_work(config)


def _hours(found: Forecast, rates: Rates, processes: int) -> list[tuple[str, float]]:
    """How long it takes, by everything that is said; by the known GPUs where nothing is."""
    flops, hours = found.samples * found.work.flops, []
    if rates.throughput is not None:
        rate = rates.throughput
        hours.append((f"at {rate:,g} {found.work.unit} a second, as you say", hours_by_rate(found.samples, rate)))
    if rates.measure:
        from launch.forecast.measure import measured_rate

        rate, device = measured_rate(found.config, found.share)
        words = f"at {rate:,.3g} {found.work.unit} a second and GPU, measured on {device}, without data and network"
        hours.append((words, hours_by_rate(found.samples, rate * processes)))
    for name, peak in rates.peaks.items():
        words = f"on {processes} x {name}, if {100 * rates.mfu:g} % of {peak:g} dense TFLOP/s are reached"
        hours.append((words, hours_by_operations(flops, gpus=processes, tflops=peak, share=rates.mfu)))
    return hours
