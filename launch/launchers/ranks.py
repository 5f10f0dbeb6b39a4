"""Which process of a job this is, whoever started it, and the one folder that all of them write to."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.files import ConfigError
from configs.names import safe_name

if TYPE_CHECKING:
    from train.runs import Run

_PATIENCE = 600.0
"""Seconds that a process waits for the first one to open the run."""

_SHELLS = ("bash", "interactive")
"""Names of SLURM jobs that are a person's shell; Lightning does not count the tasks of these."""
_NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_PORT")


def adopt(environment: MutableMapping[str, str]) -> None:
    """Correct the variables that Lightning would misread.

    Empty ones are removed, and DeepSpeed's name of the node becomes Lightning's.  Lightning takes every process inside
    a SLURM allocation for one of those that ``srun`` starts: it would wait for the others, or train on one of several
    GPUs.  Where ``srun`` did not start several, the job's name says so, as Lightning documents it.
    """
    for name in _NUMBERS:
        if not environment.get(name, "0").strip():
            del environment[name]
    if "CROSS_RANK" in environment:
        environment.setdefault("NODE_RANK", environment["CROSS_RANK"])
    if "SLURM_NTASKS" in environment and not by_srun(environment):
        environment["SLURM_JOB_NAME"] = "interactive"


def validate_launch(num_nodes: int = 1, environment: Mapping[str, str] | None = None) -> None:
    """Refuse variables of a launcher that did not start this process: it would wait for others that do not come.

    Args:
        num_nodes: of the recipe.
        environment: variables; this process's by default.

    Raises:
        ConfigError: which variables are set, and what to do.
    """
    said = os.environ if environment is None else environment
    for name in _NUMBERS:
        if not said.get(name, "0").strip().isdecimal():
            raise ConfigError(f"the environment variable {name}={said[name]!r} is not a number; unset it")
    if by_srun(said) or ("LOCAL_RANK" in said and "WORLD_SIZE" in said):  # torchrun, DeepSpeed, Lightning itself
        return
    ranks = [name for name in ("RANK", "LOCAL_RANK") if int(said.get(name, 0)) > 0]
    if "RANK" in said and int(said.get("WORLD_SIZE", 1)) > 1:
        ranks = ["RANK", "WORLD_SIZE"]
    if ranks:
        there = ", ".join(f"{name}={said[name]}" for name in ranks)
        lacking = " and ".join(name for name in ("LOCAL_RANK", "WORLD_SIZE") if name not in said)
        raise ConfigError(
            f"the environment sets {there}, but not {lacking}; start the processes with torchrun or srun, which set "
            f"all of them, or unset {' and '.join(ranks)} for a single process"
        )
    node = next((name for name in ("NODE_RANK", "GROUP_RANK") if name in said), None)
    if num_nodes > 1 and (node is None or "MASTER_ADDR" not in said):
        raise ConfigError(
            f"trainer.num_nodes={num_nodes}, but no launcher started this process; use torchrun or srun (robustclip "
            "launch prints the line), or set NODE_RANK, MASTER_ADDR and MASTER_PORT on every node"
        )
    if num_nodes == 1 and node is not None and int(said[node]) > 0:
        raise ConfigError(f"the environment sets {node}={said[node]}, but trainer.num_nodes=1; correct one of them")


def rank_of(environment: Mapping[str, str] | None = None) -> int:
    """Number of this process among those of its job, 0 where it is alone.

    Args:
        environment: variables; this process's by default.
    """
    said = os.environ if environment is None else environment
    if "RANK" in said:  # torchrun, DeepSpeed
        return int(said["RANK"])
    if by_srun(said):
        return int(said["SLURM_PROCID"])
    # processes that Lightning starts itself; only whether it is the first one matters to us
    node, local = int(said.get("NODE_RANK", said.get("GROUP_RANK", 0))), int(said.get("LOCAL_RANK", 0))
    return local if node == 0 else max(local, 1)


def processes_of(environment: Mapping[str, str] | None = None) -> int:
    """Number of processes that a launcher started, 1 where none did.

    Args:
        environment: variables; this process's by default.
    """
    said = os.environ if environment is None else environment
    if "RANK" in said:
        return int(said.get("WORLD_SIZE", 1))
    return int(said["SLURM_NTASKS"]) if by_srun(said) else 1


def by_srun(said: Mapping[str, str]) -> bool:
    """Whether ``srun`` started the process whose variables these are as one of several.

    A batch script, and a shell on a node, have most of SLURM's variables too; only ``srun`` numbers its steps.
    """
    step = "SLURM_STEP_ID" in said and "SLURM_PROCID" in said and said.get("SLURM_JOB_NAME") not in _SHELLS
    return step and said.get("SLURM_NTASKS", "").isdecimal() and int(said["SLURM_NTASKS"]) > 1


def in_slurm_job(said: Mapping[str, str]) -> bool:
    """Whether the process whose variables these are belongs to a SLURM job, and not to a person's shell in one."""
    return {"SLURM_JOB_ID", "SLURM_PROCID"} <= said.keys() and said.get("SLURM_JOB_NAME") not in _SHELLS


def agreed_folder(name: str, out: Path | None, environment: Mapping[str, str] | None = None) -> Path | None:
    """The folder that all processes of a job write to; None where a process alone may choose.

    A time of day would differ between processes, so that the job's own number stands in for it.

    Args:
        name: of the recipe.
        out: what the user says.
        environment: variables; this process's by default.

    Raises:
        ConfigError: several processes, no ``out`` and a job without a number.
    """
    said = os.environ if environment is None else environment
    launched = "RANK" in said or by_srun(said)  # processes that Lightning starts itself find the first one's run
    if out is not None or processes_of(said) == 1 or not launched:
        return out
    if "RANK" not in said:
        return Path("runs") / safe_name(name) / f"slurm-{said['SLURM_JOB_ID']}"
    job = re.sub(r"[^\w.-]+", "-", said.get("TORCHELASTIC_RUN_ID", "none"))
    if job != "none":
        return Path("runs") / safe_name(name) / f"torchrun-{job}"
    raise ConfigError(f"{processes_of(said)} processes need one folder; name it with --out")


def open_agreed_run(name: str, config: Any, out: Path | None, *, command: str) -> Run:
    """The run of this job: the first process opens it, the others wait until it stands and only look.

    Args:
        name: of the recipe.
        config: checked.
        out: the run's folder.
        command: for the record.

    Raises:
        ConfigError: as ``validate_launch`` and ``train.runs.open_run``; or the first process never opened the run.
    """
    from train.runs import Run, open_run, unfinished_run

    validate_launch(config.trainer.num_nodes)
    folder = agreed_folder(name, out)
    if rank_of() == 0:
        return open_run(name, config, folder, command=command)
    folder = folder or unfinished_run(name, config)  # of Lightning's first process, which has opened it
    if folder is None:
        raise ConfigError(f"process {rank_of()} finds no run of the first one; name its folder with --out")
    _wait_for(folder, config)
    return Run(folder, config, (folder / "done").is_file())


def _wait_for(folder: Path, config: Any, patience: float | None = None) -> None:
    from train.runs import is_of

    end = time.monotonic() + (_PATIENCE if patience is None else patience)
    while not is_of(folder, config):
        if time.monotonic() > end:
            raise ConfigError(f"process {rank_of()} waited in vain for the first one to open {folder}; is it shared?")
        time.sleep(0.1)
