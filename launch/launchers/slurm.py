"""SLURM: a script for ``sbatch`` that survives preemption, and its way to the queue."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from configs.files import ConfigError
from launch.launchers.job import Job, shown

_WARNING = 120  # seconds between the signal and the end: time for a checkpoint
_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Resources:
    """What a job asks the cluster for, beside nodes and GPUs.

    Attributes:
        time: limit, as SLURM writes it: ``24:00:00``, ``1-12``, ``90``.
        partition, account, qos, constraint, mem: as for ``sbatch``.
        cpus: per process.
        gpus: the processes want GPUs.
        requeue: start again after a preemption; the run goes on from its newest checkpoint.
        more: further options of ``sbatch``, ``name`` or ``name=value``.
    """

    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    mem: str | None = None
    cpus: int | None = None
    gpus: bool = True
    requeue: bool = True
    more: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.time and not re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", self.time):
            raise ConfigError(f"--time {self.time!r} is no limit; say 24:00:00, or 1-12 for a day and a half")
        if self.cpus is not None and self.cpus < 1:
            raise ConfigError(f"--cpus {self.cpus}: must be at least 1")
        bad = [option for option in self.more if not re.match(r"^[a-z][a-z-]*(=.*)?$", option)]
        if bad:
            raise ConfigError(f"--sbatch takes name=value, such as reservation=night, not: {', '.join(bad)}")


def script_file(job: Job) -> Path:
    """Where the script stands once it is submitted."""
    return job.out.with_name(f"{job.out.name}.sbatch")


def options(job: Job, resources: Resources) -> dict[str, str | None]:
    """The options of ``sbatch``, by name; None where one has no value."""
    found: dict[str, str | None] = {
        "job-name": _NAME.sub("-", f"{job.kind}-{job.name}"),
        "nodes": str(job.nodes),
        "ntasks-per-node": str(job.devices),
        "gpus-per-node": str(job.devices) if resources.gpus and not _asks_for_gpus(resources.more) else None,
        "cpus-per-task": None if resources.cpus is None else str(resources.cpus),
        "mem": resources.mem,
        "time": resources.time,
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        # beside the run's folder, which is to hold nothing but the run; %j is the job's number, %% a percent sign
        "output": str(job.out).replace("%", "%%") + ".%j.log",
    }
    found = {name: value for name, value in found.items() if value is not None}
    if resources.requeue:
        found |= {"requeue": None, "open-mode": "append", "signal": f"USR1@{_WARNING}"}
    for option in resources.more:
        name, equals, value = option.partition("=")
        found[name] = value if equals else None
    return found


def sbatch_script(job: Job, resources: Resources) -> str:
    """The text of a batch script.

    One task per process, each of which sees all GPUs of its node: Lightning finds its place by SLURM's variables.  At
    the signal the job is queued again (``launch.launchers.preemption``).  Images of an evaluation are dealt out over
    the tasks, a GPU each.
    """
    said = options(job, resources).items()
    lines = [f"#SBATCH --{name}" + (f"={_value(value)}" if value else "") for name, value in said]
    # srun takes the CPUs of a task from its own options or this variable, no longer from those of sbatch
    variables = ['export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'] if resources.cpus else []
    return "\n".join(["#!/bin/bash", *lines, "set -euo pipefail", *variables, *_steps(job), ""])


def _asks_for_gpus(more: tuple[str, ...]) -> bool:
    return any(option.startswith(("gres=", "gpus")) for option in more)


def _value(text: str) -> str:
    """A value as sbatch reads it from a comment: quotes are understood, a line's end is not."""
    if "\n" in text:
        raise ConfigError(f"an option of sbatch cannot hold a line's end: {text!r}")
    return text if re.fullmatch(r"[\w@%+=:,./-]*", text) else '"' + text.replace('"', '\\"') + '"'


def _steps(job: Job) -> list[str]:
    srun = "srun --kill-on-bad-exit=1"
    if job.parts != "shards" or job.processes == 1:
        return [f"{srun} {shown(job.command)}"]
    part = 'export LOCAL_RANK="$SLURM_LOCALID"; exec "$@" --shard "$((SLURM_PROCID + 1))/$SLURM_NTASKS"'
    join = [*job.program, "report", str(job.out)]
    return [f"{srun} bash -c {shlex.quote(part)} bash {shown(job.command)}", shown(join)]
