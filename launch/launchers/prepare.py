"""From words on the command line to a job whose every fault is told before anything is started or queued."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.files import ConfigError
from configs.load import load_config
from configs.overrides import in_full, key_of
from launch.launchers.job import KINDS, Job, own_program

_SET_HERE = ("trainer.devices", "trainer.num_nodes")


def prepare(kind: str, words: Sequence[str], out: Path | None, *, nodes: int, devices: int) -> tuple[Job, Any]:
    """A job and its checked config.

    Args:
        kind: one of ``launch.launchers.job.KINDS``.
        words: what the command is told: the recipe and key=value; before them the checkpoint, for an evaluation.
        out: the run's folder; made up once where it is not said, so that all processes agree on it.
        nodes: machines.
        devices: processes per machine.

    Raises:
        ConfigError: every fault of command, recipe and numbers, one a line.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown command {kind!r}; choose one of: {', '.join(KINDS)}")
    faults = [f"--{name} {count}: must be at least 1" for name, count in _counts(nodes, devices) if count < 1]
    faults += [f"{word}: set by the launcher; say --nodes and --gpus" for word in words if _is_set_here(word)]
    config = None
    try:
        config = _config(kind, words)
    except ConfigError as error:
        faults += str(error).splitlines()
    if not faults:
        faults += _sharing_faults(kind, config, nodes, devices)
    if faults:
        raise ConfigError("\n".join(faults))
    job = Job(kind, tuple(words), Path(), nodes, devices, own_program())
    return Job(kind, tuple(words), out or fresh_folder(job), nodes, devices, own_program()), config


def fresh_folder(job: Job) -> Path:
    """A new folder ``runs/<recipe>/<time>``, of which there is only this one name."""
    parent = Path("embeddings" if job.kind == "embed" else "runs") / re.sub(r"[^\w.-]+", "-", job.name)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{i}" for i in range(2, 1000))]
    return next(parent / name for name in names if not (parent / name).exists())


def _counts(nodes: int, devices: int) -> list[tuple[str, int]]:
    return [("nodes", nodes), ("gpus", devices)]


def _is_set_here(word: str) -> bool:
    return key_of(word) in _SET_HERE


def _config(kind: str, words: Sequence[str]) -> Any:
    options = [word for word in words if word.startswith("-")]
    if options:
        raise ConfigError(f"a job takes recipes and key=value, not options: {', '.join(options)}")
    least, what = (2, "a checkpoint and a recipe") if kind == "evaluate" else (1, "a recipe")
    if len(words) < least:
        raise ConfigError(f"{kind} needs {what}")
    if kind != "evaluate":
        return load_config(kind, words[0], words[1:])
    from launch.evaluation import told_by

    overrides = in_full(kind, words[2:])
    return load_config(kind, words[1], [*overrides, *told_by(words[0], overrides)])


def _sharing_faults(kind: str, config: Any, nodes: int, devices: int) -> list[str]:
    processes = nodes * devices
    if processes > 1 and KINDS[kind] == "whole":
        return [f"{kind} runs in one process; say --nodes 1 --gpus 1"]
    batch = config.data.batch_size if KINDS[kind] == "ranks" else processes
    if batch % processes:
        return [
            f"data.batch_size is {batch} over all processes; {nodes} x {devices} cannot share it equally: "
            f"choose a multiple of {processes}"
        ]
    return []
