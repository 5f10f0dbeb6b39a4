"""A step of FARE beside the same step as the reference recipe computes it, and beside what its products alone cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from eval.speed import Record
from launch.bench.crew import Member, crew
from launch.bench.race import race
from launch.bench.train_step_cases import STEPS, Ours, Reference

ARCHITECTURES = {"vit_b32": ("ViT-B-32", 8), "convnext_b": ("convnext_base_w", 4)}
"""Names in findings: the architecture of open_clip, and how many images a step has on a CPU."""


def train_step(*, quick: bool, device: torch.device, rounds: int) -> Record:
    """FARE's step by PGD-10 against the reference recipe's, in images a second, memory, and weights after the rounds.

    Args:
        quick: the embedded model.
        device: where.
        rounds: steps that are timed; one more comes before them.
    """
    cases = {"tiny": ("tiny", 32)} if quick else ARCHITECTURES
    rounds = rounds if quick else 9  # and one to warm up: ten steps in all
    record = Record(
        "train-step",
        f"FARE, PGD-{STEPS}, random weights{' of the embedded model' if quick else ''}, steps of a Trainer against the "
        "reference recipe written plainly: single precision, a clean forward pass with its graph, the target computed "
        "in every step, weights that want gradients in the attack, and checks that wait for the device",
    )
    for name, (architecture, images) in cases.items():
        _race_one(record, name, architecture, images, device, rounds)
    return record


def _race_one(record: Record, name: str, architecture: str, images: int, device: torch.device, rounds: int) -> None:
    settings = {"architecture": architecture, "images": images * (16 if device.type == "cuda" else 1)}
    kinds: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "reference": (Reference, {}),
        "ours": (Ours, {}),
        **({"ours_bf16": (Ours, {"precision": "bf16-mixed"})} if device.type == "cuda" else {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: str(Path(folder) / f"{kind}.pt") for kind in kinds}
        members = [
            Member.of(make, name=kind, device=str(device), out=files[kind], **more, **settings)
            for kind, (make, more) in kinds.items()
        ]
        with crew(members) as ready:
            timings = race(
                {one.name: partial(one.ask, "step") for one in ready}, rounds=rounds, title=f"train-step {name}"
            )
            found = {one.name: one.ask("finding") for one in ready}
        apart = _apart(files["ours"], files["reference"])
    _tell(record, name, settings["images"], {k: (timings[k], found[k]) for k in kinds}, apart)


def _tell(record: Record, name: str, images: int, cases: dict[str, Any], apart: float) -> None:
    reference, plain = cases["reference"]
    for kind, (timing, found) in cases.items():
        record.timings[f"{name}_{kind}"] = timing
        record.rates[f"{name}_{kind}_images"] = images / timing.median
        record.rates[f"{name}_{kind}_gflops"] = found["flops"] / timing.median / 1e9
        if kind == "reference":
            continue
        also = kind.removeprefix("ours")
        record.ratios[f"{name}{also}_images_per_s_ratio"] = reference.median / timing.median
        record.ratios[f"{name}{also}_memory_ratio"] = found["peak"] / plain["peak"]
        record.ratios[f"{name}{also}_memory_ratio_with_weights"] = _whole(found) / _whole(plain)
    record.ratios[f"{name}_operations_ratio"] = plain["flops"] / cases["ours"][1]["flops"]
    for kind, (timing, found) in cases.items():
        record.ratios[f"{name}_{kind}_of_gemm_rate"] = found["flops"] / timing.median / found["gemm"]
    record.facts[f"{name}_weights_apart"] = apart
    record.goals |= {
        f"{name}_images_per_s_ratio": "at least 1.25",
        f"{name}_memory_ratio": "at most 0.6",
        f"{name}_bf16_images_per_s_ratio": "at least 5",
        f"{name}_weights_apart": "0: share of the way that the weights went",
    }


def _whole(found: dict[str, Any]) -> int:
    return found["peak"] + found["held"]


def _apart(one: str, other: str) -> float:
    """How far two trainings ended apart, as a share of the way that the second one went."""
    a, b = (torch.load(file, weights_only=True) for file in (one, other))
    apart = sum(float((a["end"][name] - b["end"][name]).square().sum()) for name in b["end"])
    went = sum(float((b["end"][name] - b["start"][name]).square().sum()) for name in b["end"])
    return (apart / went) ** 0.5
