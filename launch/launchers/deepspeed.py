"""DeepSpeed's launcher: processes on one node, or over ssh on those of a hostfile."""

from __future__ import annotations

from pathlib import Path

from configs.files import ConfigError
from launch.launchers.job import Job

STRATEGY = "zero2"
"""Shares gradients and optimiser states; for a recipe that says nothing."""


def deepspeed_command(
    job: Job, *, program: str = "deepspeed", hostfile: Path | None = None, strategy: str | None = None
) -> list[str]:
    """The words that start a job's processes from one node.

    ``--no_local_rank``: the launcher would add an option that no command of ours has.  It tells processes their node by
    ``CROSS_RANK``, which ``launch.launchers.ranks.adopt`` hands on to Lightning.

    Args:
        job: what to run.
        program: the launcher.
        hostfile: lines of ``host slots=8``; several nodes need one.
        strategy: added to what the job is told.

    Raises:
        ConfigError: several nodes and no hostfile, or a kind that DeepSpeed does not train.
    """
    if job.parts != "ranks":
        raise ConfigError(f"DeepSpeed trains; {job.kind} runs under local, torchrun or slurm")
    if job.nodes > 1 and hostfile is None:
        raise ConfigError(f"{job.nodes} nodes need --hostfile FILE with a line 'host slots={job.devices}' for each")
    start = [program, "--num_gpus", str(job.devices), "--no_local_rank", "--no_python"]
    if hostfile is not None:
        start += ["--hostfile", str(hostfile)]
    if job.nodes > 1:
        start += ["--num_nodes", str(job.nodes)]
    return [*start, *job.command, *([f"trainer.strategy={strategy}"] if strategy else [])]
