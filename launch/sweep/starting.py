"""How a stage of a run is started: the words of this machine's launchers, or a script for the queue."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from configs.files import ConfigError
from launch.launchers.job import KINDS, Job, Parts, own_program
from launch.sweep.planning import Stage

LAUNCHERS = ("local", "torchrun", "deepspeed", "slurm")


@dataclass(frozen=True)
class Launch:
    """By what the runs are started.

    Attributes:
        by: one of ``LAUNCHERS``.
        gpus: processes per node; None leaves it to the recipe.
        nodes: machines per run.
        jobs: runs at a time, on this machine.
        sbatch: options of ``sbatch``, name=value.
    """

    by: str = "local"
    gpus: int | None = None
    nodes: int = 1
    jobs: int = 1
    sbatch: tuple[str, ...] = ()

    def faults(self) -> list[str]:
        """One line for each thing that cannot be."""
        found = []
        if self.by not in LAUNCHERS:
            found.append(f"--launch {self.by}: choose one of: {', '.join(LAUNCHERS)}")
        for name, count in (("jobs", self.jobs), ("gpus", self.gpus or 1), ("nodes", self.nodes)):
            if count < 1:
                found.append(f"--{name} {count}: must be at least 1")
        if self.nodes > 1 and self.by != "slurm":
            found.append(f"--nodes {self.nodes}: a sweep spreads over machines by --launch slurm")
        if self.jobs > 1 and self.by == "slurm":
            found.append(f"--jobs {self.jobs}: the queue decides how many run at a time")
        if self.sbatch and self.by != "slurm":
            found.append("--sbatch belongs to --launch slurm")
        return found


@dataclass(frozen=True)
class StageJob(Job):
    """A stage as launchers take it; what only evaluates runs in one process.

    Attributes:
        run: the name of its run.
        counted: whether a training is told how many processes there are.
    """

    run: str = field(default="", kw_only=True)
    counted: bool = field(default=True, kw_only=True)

    @property
    def parts(self) -> Parts:
        """How its processes share the work."""
        return KINDS.get(self.kind, "whole")

    @property
    def name(self) -> str:
        """The run's."""
        return self.run

    @property
    def command(self) -> list[str]:
        """The words of one process."""
        told = [f"trainer.devices={self.devices}", f"trainer.num_nodes={self.nodes}"]
        told = told if self.parts == "ranks" and self.counted else []
        options = self.words.index("--budget") if "--budget" in self.words else len(self.words)
        words = [*self.words[:options], *told, *self.words[options:]]
        return [*self.program, self.kind, *words, "--out", str(self.out)]


def job_of(stage: Stage, run: str, launch: Launch) -> StageJob:
    """The job of a stage."""
    trains = KINDS.get(stage.kind) == "ranks"
    nodes, gpus = (launch.nodes, launch.gpus or 1) if trains else (1, 1)
    counted = launch.by != "local" or launch.gpus is not None
    return StageJob(stage.kind, stage.words, stage.out, nodes, gpus, own_program(), run=run, counted=counted)


def line_of(stage: Stage, run: str, launch: Launch) -> list[str]:
    """The words that start a stage on this machine.

    Raises:
        ConfigError: the launcher cannot run it.
    """
    from launch.launchers.deepspeed import STRATEGY, deepspeed_command
    from launch.launchers.torchrun import torchrun_command

    job = job_of(stage, run, launch)
    if job.parts != "ranks" or launch.by == "local":
        return job.command
    if launch.by == "torchrun":
        return torchrun_command(job)
    beside = Path(sys.executable).with_name("deepspeed")
    unsaid = not any(word.startswith("trainer.strategy=") for word in stage.words)
    program = str(beside) if beside.is_file() else "deepspeed"
    return deepspeed_command(job, program=program, strategy=STRATEGY if unsaid else None)


def sharing_faults(batch: int, launch: Launch) -> list[str]:
    """What stands against training a batch on so many processes."""
    processes = (launch.gpus or 1) * launch.nodes
    if batch % processes:
        return [f"data.batch_size is {batch}; {processes} processes cannot share it equally"]
    return []


def devices_of(slot: int, jobs: int, environment: dict[str, str], count: int) -> dict[str, str]:
    """The variables that give one of several runs at a time its own share of the GPUs, or of the CPU's cores.

    Args:
        slot: of the run, from 0.
        jobs: runs at a time.
        environment: variables; what the user says there stands.
        count: GPUs that can be seen.
    """
    if jobs == 1:
        return {}
    said = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = said or [str(number) for number in range(count)]
    told = {}
    if names:
        each = max(1, len(names) // jobs)
        first = slot * each % len(names)
        told["CUDA_VISIBLE_DEVICES"] = ",".join(names[first : first + each])
    if "OMP_NUM_THREADS" not in environment:
        told["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    return told


def refuse_here(launch: Launch) -> None:
    """Raise where a launcher is not to be had.

    Raises:
        ConfigError: what is wrong with ``launch``, one a line.
    """
    if faults := launch.faults():
        raise ConfigError("\n".join(faults))
