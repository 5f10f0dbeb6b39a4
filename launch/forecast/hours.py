"""Hours of a training, from its operations or from a rate of samples."""

from __future__ import annotations

from configs.files import ConfigError
from train.peaks import PEAK_TFLOPS

_FULL = "32-true"


def hours_by_operations(flops: float, *, gpus: int, tflops: float, share: float) -> float:
    """Hours of so many operations.

    Args:
        flops: in all.
        gpus: that share them.
        tflops: rate of one, at its best.
        share: of that rate which is reached (model FLOPs utilisation), 0 to 1.

    Raises:
        ConfigError: a rate or a share that cannot be.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"--mfu {share}: must be above 0 and at most 1")
    if tflops <= 0:
        raise ConfigError(f"--tflops {tflops}: must be above 0")
    return flops / (gpus * tflops * 1e12 * share) / 3600


def hours_by_rate(samples: float, rate: float) -> float:
    """Hours of so many samples at a rate in samples per second, all GPUs together.

    Raises:
        ConfigError: a rate that cannot be.
    """
    if rate <= 0:
        raise ConfigError(f"--throughput {rate}: must be above 0")
    return samples / rate / 3600


def peak_of(gpu: str) -> float:
    """Peak rate in TFLOP/s of a GPU by its name.

    Raises:
        ConfigError: an unknown one.
    """
    if gpu.lower() not in PEAK_TFLOPS:
        raise ConfigError(f"unknown GPU {gpu!r}; choose one of: {', '.join(PEAK_TFLOPS)}, or say --tflops")
    return PEAK_TFLOPS[gpu.lower()]


def caution(precision: str) -> str:
    """What a recipe's precision does to a peak rate; empty where nothing."""
    if precision != _FULL:
        return ""
    return (
        "the recipe computes in 32-true, which none of these peaks is for: say trainer.precision=bf16-mixed or --tflops"
    )
