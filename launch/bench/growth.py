"""How work, time and memory grow with batch, images, classes, radii and processes: exponents of fitted powers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.load import check_config
from eval.evaluate import evaluate_checkpoint
from eval.speed import Record
from launch.bench.race import peak_bytes, race
from modules.counting import flops_of
from modules.encoders import load_clip
from modules.zero_shot.head import ZeroShotHead

BRIEF: dict[str, Any] = {
    "model": {"name": "tiny"},
    "tasks": {"digits": {"shards": "digits", "limit": 32}},
    "defenses": {"none": {}},
    "attacks": {"apgd": {"steps": 3}},
    "views": [],
    "threat": {"norm": "linf", "eps": 4 / 255},
    "examples": 0,
    "batch_size": 16,
}


def growth(*, quick: bool, device: torch.device, rounds: int) -> Record:
    """Exponents: 1 grows in proportion, 0 not at all.

    Args:
        quick: fewer points of each curve.
        device: where.
        rounds: repetitions of what is timed.
    """
    record = Record(
        "growth",
        "exponent of a power fitted to operations (counted), seconds (quickest of the rounds) or the peak of tensors' "
        "bytes, for the embedded model: 1 grows in proportion, 0 not at all",
    )
    _batch(record, quick, device, rounds)
    _classes(record, quick, device)
    _evaluation(record, quick, device)
    return record


def exponent(sizes: Iterable[float], costs: Iterable[float]) -> float:
    """The power of size that fits costs best, by least squares of logarithms."""
    return float(np.polyfit(np.log(list(sizes)), np.log(list(costs)), 1)[0])


def _batch(record: Record, quick: bool, device: torch.device, rounds: int) -> None:
    encoder = load_clip("tiny").image.to(device).freeze()
    sizes = (16, 64) if quick else (16, 64, 256)

    def work(n: int) -> Callable[[], object]:
        x = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)

        def step() -> object:
            leaf = x.clone().requires_grad_()
            return torch.autograd.grad(encoder.encode_image(leaf).square().sum(), leaf)

        return step

    timings = race({f"batch_{n}": work(n) for n in sizes}, rounds=rounds, title="growth with the batch")
    record.timings |= timings
    record.facts["seconds_by_batch"] = exponent(sizes, [timings[f"batch_{n}"].low for n in sizes])
    record.facts["bytes_by_batch"] = exponent(sizes, [peak_bytes(work(n), device) for n in sizes])
    record.goals |= {"seconds_by_batch": "at most 1", "bytes_by_batch": "at most 1"}


def _classes(record: Record, quick: bool, device: torch.device) -> None:
    encoder = load_clip("tiny").image.to(device).freeze()
    sizes = (10, 1000) if quick else (10, 100, 1000, 10_000)
    x = torch.rand(16, 3, 32, 32).to(device)
    costs = []
    for n in sizes:
        head = ZeroShotHead(torch.randn(n, encoder.embedding_dim), [str(i) for i in range(n)]).to(device)
        costs.append(flops_of(lambda head=head: head(encoder.encode_image(x))))
    record.facts["operations_by_classes"] = exponent(sizes, costs)
    record.goals["operations_by_classes"] = "far below 1"


def _evaluation(record: Record, quick: bool, device: torch.device) -> None:
    """What whole evaluations compute and hold, by images, radii and shards."""
    images = (32, 64) if quick else (32, 64, 128, 256)
    work = [_evaluated(device, n) for n in images]
    record.facts["operations_by_images"] = exponent(images, [one[0] for one in work])
    record.facts["bytes_by_images"] = exponent(images, [one[1] for one in work])
    grids = {1: [4 / 255], 2: [2 / 255, 4 / 255], 4: [1 / 255, 2 / 255, 4 / 255, 8 / 255]}
    costs = [
        _evaluated(device, 32, curve={"eps": radii, "attack": "apgd", "defenses": ["none"]})[0]
        for radii in grids.values()
    ]
    record.facts["operations_by_radii"] = exponent(grids, costs)
    shards = (1, 2) if quick else (1, 2, 4)
    totals = [sum(_evaluated(device, 64, shard=(k + 1, n))[0] for k in range(n)) for n in shards]
    record.facts["operations_by_ranks"] = exponent(shards, totals)
    record.goals |= {
        "operations_by_images": "at most 1",
        "bytes_by_images": "near 0",
        "operations_by_radii": "at most 1",
        "operations_by_ranks": "near 0: of parts that ranks judge, only prompts are read again",
    }


def _evaluated(
    device: torch.device, images: int, shard: tuple[int, int] = (1, 1), curve: dict[str, Any] | None = None
) -> tuple[int, int]:
    """Operations and the peak of bytes of an evaluation."""
    tasks = {"digits": {"shards": "digits", "limit": images}}
    said = {**BRIEF, "tasks": tasks, "device": device.type, **({"curve": curve} if curve else {})}
    config = check_config("evaluate", said)
    with tempfile.TemporaryDirectory() as folder:
        counted = flops_of(lambda: evaluate_checkpoint(config, Path(folder) / "counted", shard=shard))
        held = peak_bytes(lambda: evaluate_checkpoint(config, Path(folder) / "held", shard=shard), device)
    return counted, held
