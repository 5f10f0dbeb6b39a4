"""Two runs, number by number: what an interruption must not change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from launch.selftest.check import Check, judged
from train.samples import read_samples, samples_files

_PARTS = {
    "weights": ("state_dict",),
    "optimizer": ("optimizer_states",),
    "schedule": ("lr_schedulers", "loops", "epoch", "global_step"),
    "callbacks": ("callbacks",),
}


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Where two trees of dictionaries, lists, tensors and plain values are not the same, bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            yield f"{place}: other keys, {sorted(map(str, one.keys() ^ other.keys()))[:3]}"
        for key in one.keys() & other.keys():
            yield from differences(one[key], other[key], f"{place}.{key}".lstrip("."))
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield f"{place}: {len(one)} and {len(other)} entries"
        for number, (a, b) in enumerate(zip(one, other, strict=False)):
            yield from differences(a, b, f"{place}[{number}]")
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        yield from _tensor_difference(one, other, place)
    elif type(one) is not type(other) or repr(one) != repr(other):
        yield f"{place}: {str(one)[:40]} and {str(other)[:40]}"


def _tensor_difference(one: Tensor, other: Tensor, place: str) -> Iterator[str]:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        yield f"{place}: {one.dtype} {list(one.shape)} and {other.dtype} {list(other.shape)}"
    elif not torch.equal(_bytes(one), _bytes(other)):
        apart = (one.double() - other.double()).abs().max() if one.numel() else 0.0
        yield f"{place} differs by up to {float(apart):.1e}"


def _bytes(tensor: Tensor) -> Tensor:
    """Its bits, of which those of a number that is none are equal to themselves."""
    return tensor.reshape(-1).contiguous().view(torch.uint8)


def newest(run: Path) -> dict[str, Any]:
    """The content of a run's last checkpoint; nothing where it has none."""
    files = sorted((run / "checkpoints").glob("step=*.ckpt"))
    return torch.load(files[-1], map_location="cpu", weights_only=True) if files else {}


def exported(run: Path) -> dict[str, Tensor]:
    """The weights that a run ended with; nothing where it has not ended."""
    return {name: value for file in (run / "export").glob("*.safetensors") for name, value in load_file(file).items()}


def same_bits(reference: Path, run: Path) -> list[Check]:
    """Whether a run ended as another one did: weights, optimizer, schedule, random numbers, samples, metrics.

    Args:
        reference: folder of the run that nobody disturbed.
        run: folder of the other one, on as many processes.
    """
    weights = (exported(reference), exported(run))
    if not all(weights):
        return [Check("end", False, f"{(run if weights[0] else reference).name} did not end")]
    found = [judged("exported weights", list(differences(*weights)), _size(weights[0]) + ", bit for bit")]
    states = newest(reference), newest(run)
    for name, keys in _PARTS.items():
        one, other = ({key: state.get(key) for key in keys} for state in states)
        found.append(
            judged(name, list(differences(one, other)), f"{', '.join(keys)} of the last checkpoint: {_size(one)}")
        )
    return [
        *found,
        *_same_samples(reference, run),
        _same_text(reference, run, "metrics.csv"),
        _same_files(reference, run),
    ]


def _same_samples(reference: Path, run: Path) -> list[Check]:
    pairs = list(zip(samples_files(reference), samples_files(run), strict=False))
    faults: dict[str, list[str]] = {"key": [], "loss": [], "draws": []}
    if len(samples_files(reference)) != len(samples_files(run)) or not pairs:
        faults["key"].append("other numbers of processes noted samples")
    lines = 0
    for one, other in ((read_samples(a), read_samples(b)) for a, b in pairs):
        lines += len(one)
        for column, told in faults.items():
            at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a[column] != b[column]), None)
            if at is not None:
                told.append(f"step {one[at]['step']}: {one[at][column]} and {other[at][column]}")
            elif len(one) != len(other):
                told.append(f"{len(one)} and {len(other)} lines")
    return [
        judged("samples", faults["key"], f"{lines} keys, in the order in which {len(pairs)} processes read them"),
        judged("losses", faults["loss"], f"of every batch of {len(pairs)} processes"),
        judged("random numbers", faults["draws"], "state of the generators in every batch"),
    ]


def _same_text(reference: Path, run: Path, name: str) -> Check:
    one, other = (
        (folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else "" for folder in (reference, run)
    )
    pairs = enumerate(zip(one.splitlines(), other.splitlines(), strict=False))
    faults = [f"line {i + 1}: {a[:60]} and {b[:60]}" for i, (a, b) in pairs if a != b]
    if one != other and not faults:
        faults = [f"{len(one.splitlines())} and {len(other.splitlines())} lines"]
    return judged(name, faults, f"{len(one.splitlines())} lines, character by character")


def _same_files(reference: Path, run: Path) -> Check:
    one, other = ({str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} for folder in (reference, run))
    return judged("files", [f"{name} is in one only" for name in sorted(one ^ other)], f"the names of {len(one)} files")


def _size(tree: Any) -> str:
    tensors = list(_tensors(tree))
    return f"{sum(t.numel() for t in tensors):,} numbers in {len(tensors)} tensors" if tensors else "plain values"


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(part)
