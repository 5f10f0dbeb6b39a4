"""The way of a batch script to SLURM's queue."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from configs.files import ConfigError, write_atomically
from launch.launchers.job import Job
from launch.launchers.slurm import Resources, options, sbatch_script, script_file


def submit(job: Job, resources: Resources) -> str:
    """The number of the job in the queue.

    The script is written beside the run's folder and submitted through submitit where that is installed, otherwise by
    ``sbatch`` itself; the cluster runs the same lines either way.

    Raises:
        ConfigError: there is no ``sbatch`` here, or it refuses the job.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError("no sbatch here")
    script = script_file(job)
    write_atomically(script, sbatch_script(job, resources))
    if find_spec("submitit") is not None:
        return _by_submitit(job, resources, script)
    return _by_sbatch(script)


def _by_sbatch(script: Path) -> str:
    ended = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True)
    if ended.returncode:
        reason = (ended.stderr.strip() or f"code {ended.returncode}").splitlines()[0]
        raise ConfigError(f"sbatch refused {script}: {reason}")
    return ended.stdout.strip().partition(";")[0]


def _by_submitit(job: Job, resources: Resources, script: Path) -> str:
    """Submitit asks for the script's resources and starts the script once, on the first node."""
    import submitit  # pyright: ignore[reportMissingImports]

    folder = script.with_suffix(".submitit")
    executor = submitit.SlurmExecutor(folder=folder)
    # a signal that changes nothing stands in for submitit's own, where the script asks for none
    said = {"signal": "CONT@1", **{n: True if v is None else v for n, v in options(job, resources).items()}}
    executor.update_parameters(
        job_name=said.pop("job-name"),
        time=None,  # submitit would say five minutes
        wckey=None,
        use_srun=False,
        stderr_to_stdout=True,
        additional_parameters=said,
    )
    try:
        return executor.submit(submitit.helpers.CommandFunction(["bash", str(script)])).job_id
    except submitit.core.utils.FailedJobError as error:
        raise ConfigError(f"sbatch refused {script}: {str(error).splitlines()[0]}") from error


def become(command: list[str]) -> None:
    """Turn this process into the command: its signals, its output and its exit code are then the command's own.

    Raises:
        ConfigError: there is no such program.
    """
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        raise ConfigError(f"{command[0]} is not installed here; pip install '.[{Path(command[0]).name}]'") from error
