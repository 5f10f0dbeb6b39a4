"""Which process of a job this is, whoever started it, and the one folder that all of them write to."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.files import ConfigError
from configs.names import safe_name

if TYPE_CHECKING:
    from train.runs import Run

_PATIENCE = 600.0
"""Seconds that a process waits for the first one to open the run."""

_NOT_BY_SRUN = ("bash", "interactive")  # names of jobs in which Lightning does not count the tasks either


def adopt(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What Lightning needs to know and a launcher said in words of its own: DeepSpeed's name of the node.

    Args:
        environment: variables; this process's by default.
    """
    said = os.environ if environment is None else environment
    return {"NODE_RANK": said["CROSS_RANK"]} if "CROSS_RANK" in said and "NODE_RANK" not in said else {}


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
    if "WORLD_SIZE" in said:
        return int(said["WORLD_SIZE"])
    return int(said["SLURM_NTASKS"]) if by_srun(said) else 1


def by_srun(said: Mapping[str, str]) -> bool:
    """Whether ``srun`` started the process whose variables these are."""
    return "SLURM_PROCID" in said and "SLURM_NTASKS" in said and said.get("SLURM_JOB_NAME") not in _NOT_BY_SRUN


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
        ConfigError: as ``train.runs.open_run``; or the first process never opened the run.
    """
    from train.runs import Run, open_run, unfinished_run

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
