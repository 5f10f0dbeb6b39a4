"""SLURM's warning that a job ends soon: ask for it to be queued again, so that its run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from types import FrameType

from launch.errors import say
from launch.launchers.job import KINDS
from launch.launchers.ranks import in_slurm_job, rank_of


def heed_the_warning(kind: str, environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process listens for SIGUSR1 from now on, as it does in a SLURM job.

    Lightning would save in the midst of whatever the ranks are doing, to a file that no run of ours goes on from; it
    keeps away from a signal that is taken.  A run goes on from its newest checkpoint.

    Args:
        kind: the command; of a training only the first process asks, of independent parts each, as others may be done.
        environment: variables; this process's by default.
    """
    said = os.environ if environment is None else environment
    if not in_slurm_job(said):
        return False
    job = said["SLURM_JOB_ID"]

    def heed(number: int, frame: FrameType | None) -> None:
        if KINDS.get(kind) != "ranks" or rank_of(said) == 0:
            _queue_again(job)

    signal.signal(signal.SIGUSR1, heed)
    return True


def _queue_again(job: str) -> None:
    try:
        ended = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    except OSError as error:
        say(f"job {job} ends soon and could not be queued again: {error}")
        return
    if ended.returncode:
        reason = (ended.stderr.strip() or f"code {ended.returncode}").splitlines()[0]
        say(f"job {job} ends soon and was not queued again: {reason}")
    else:
        say(f"job {job} ends soon; it is queued again and will go on")
