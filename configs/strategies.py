"""Which ways of spreading a training over processes there are, and what does not go together with them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

STRATEGIES = ("auto", "ddp", "fsdp2", "zero1", "zero2", "zero3")
"""``auto`` takes one device, or ``ddp`` where there are several."""
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
SHARDED = ("fsdp2", "zero3")
"""Those under which a process holds a part of the weights only."""

_OLD_NAMES = {"deepspeed_stage_1": "zero1", "deepspeed_stage_2": "zero2", "deepspeed_stage_3": "zero3"}
_KNOWN: dict[str, tuple[str, ...]] = {
    "finetune": ("auto", "ddp", "fsdp2", "zero1", "zero2"),
    "perceptual": ("auto", "ddp"),
    "prior": STRATEGIES,
    "pretrain": ("auto", "ddp"),
}
_REASONS = {
    (
        "finetune",
        "zero3",
    ): "ZeRO-3 shards the weights under the attack and gives no gradient of pixels; use fsdp2 or zero2",
    (
        "finetune",
        "fsdp",
    ): "FSDP1 shards the weights under the attack and allows one forward pass a step; use fsdp2 or zero2",
    **{
        ("perceptual", name): "only a head or LoRA is trained, too little to cut up, and the rest is frozen; use ddp"
        for name in ("fsdp", *STRATEGIES[2:])
    },
    ("prior", "fsdp"): "FSDP1 is not supported; use fsdp2",
}


def strategy_faults(kind: str, trainer: dict[str, Any]) -> list[str]:
    """One line per fault of a recipe's ``trainer`` node that concerns how the training is spread and computed.

    Args:
        kind: of the recipe: ``finetune``, ``perceptual``, ``prior`` or ``pretrain``.
        trainer: its plain values.
    """
    said = str(trainer["strategy"])
    strategy, precision = _OLD_NAMES.get(said, said), str(trainer["precision"])
    if strategy not in _KNOWN[kind]:
        reason = _REASONS.get((kind, strategy), f"{kind} cannot be trained so; use one of: {', '.join(_KNOWN[kind])}")
        if strategy not in STRATEGIES and (kind, strategy) not in _REASONS:
            reason = f"unknown; choose one of: {', '.join(_KNOWN[kind])}"
        return [f"trainer.strategy: {said!r}: {reason}"]
    faults = []
    if strategy != said:
        faults.append(f"trainer.strategy: {said!r} is called {strategy} here")
    if strategy.startswith("zero") and find_spec("deepspeed") is None:
        faults.append(f"trainer.strategy: {strategy} needs DeepSpeed; install it: pip install -e '.[deepspeed]'")
    if precision == "16-mixed" and strategy not in ("auto", "ddp"):
        faults.append(f"trainer.precision: '16-mixed' does not go with {strategy}; use bf16-mixed")
    return faults + _switch_faults(kind, strategy, trainer)


def _switch_faults(kind: str, strategy: str, trainer: dict[str, Any]) -> list[str]:
    faults = [
        f"trainer.{switch}: {kind} has no such switch, only finetune has; leave it out"
        for switch in ("checkpointing", "compile")
        if trainer.get(switch) and kind != "finetune"
    ]
    if trainer.get("skip_spikes") and strategy.startswith("zero"):
        faults.append(f"trainer.skip_spikes: {strategy} cannot leave a step out; use ddp or fsdp2, or leave it out")
    if trainer.get("compile") and strategy not in ("auto", "ddp"):
        faults.append(f"trainer.compile: not together with {strategy}; use ddp, or leave it out")
    return faults


def device_faults(trainer: dict[str, Any]) -> list[str]:
    """One line per fault of a recipe's ``trainer`` node that concerns the devices of a node.

    Args:
        trainer: its plain values.
    """
    accelerator, said = str(trainer["accelerator"]), str(trainer["devices"]).strip()
    if accelerator not in ACCELERATORS:
        return [f"trainer.accelerator: unknown {accelerator!r}; choose one of: {', '.join(ACCELERATORS)}"]
    remedy = "give a number of processes from 1 on, or auto"
    if said == "auto" or (said.isdecimal() and int(said) >= 1):
        return []
    listed = re.fullmatch(r"\[?\s*\d+(\s*,\s*\d+)*\s*,?\s*\]?", said) and "," in said
    if said != "-1" and not listed:
        return [f"trainer.devices is {said!r}; {remedy}; of GPUs also -1 for all, or their numbers, such as 0,1"]
    if listed and len(set(numbers := re.findall(r"\d+", said))) < len(numbers):
        return [f"trainer.devices is {said!r}, which names a GPU twice"]
    if accelerator == "cpu" or (accelerator == "auto" and not _has_gpu()):
        where = "trainer.accelerator is cpu" if accelerator == "cpu" else "there is none here"
        return [f"trainer.devices is {said!r}, which names GPUs, and {where}; {remedy}"]
    return []


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def spike_faults(trainer: dict[str, Any]) -> list[str]:
    """One line per fault of a recipe's ``trainer`` node that concerns losses that stand out."""
    ratio = trainer["spikes"]
    faults = []
    if isinstance(ratio, int | float) and not ratio > 1:
        faults.append(f"trainer.spikes is {ratio}; a spike is above the usual loss, so it must be above 1, such as 10")
    if trainer["skip_spikes"] and ratio is None:
        faults.append("trainer.skip_spikes needs to know what a spike is; say trainer.spikes=10")
    return faults
