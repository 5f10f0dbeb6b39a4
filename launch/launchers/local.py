"""This machine: Lightning itself starts one process per device."""

from __future__ import annotations

from configs.files import ConfigError
from launch.launchers.job import Job


def local_command(job: Job) -> list[str]:
    """The words that start a job on this machine.

    Raises:
        ConfigError: several machines, or parts that only torchrun hands out.
    """
    if job.nodes > 1:
        raise ConfigError(f"--nodes {job.nodes}: this machine is one; use torchrun, slurm or deepspeed")
    if job.parts == "shards" and job.devices > 1:
        raise ConfigError(f"{job.kind} on {job.devices} devices needs processes: robustclip launch torchrun {job.kind}")
    return job.command
