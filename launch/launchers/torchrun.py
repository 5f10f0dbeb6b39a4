"""torchrun: one line, the same on every node."""

from __future__ import annotations

import sys

from configs.files import ConfigError
from launch.launchers.job import Job

_PORT = 29500
_FRESH_STORE = ("env", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1")
"""Otherwise processes that are started again find the addresses of those that are gone, and wait for them."""


def torchrun_command(job: Job, *, rendezvous: str | None = None, restarts: int = 0) -> list[str]:
    """The words that start a job's processes on one node.

    Lightning finds them by the variables that torchrun sets.  Nodes find each other at ``rendezvous``, in any order,
    so that all of them run the very same words.

    Args:
        job: what to run.
        rendezvous: ``host`` or ``host:port`` of the first node; a single node needs none.
        restarts: times that torchrun starts all processes again after one has failed.

    Raises:
        ConfigError: several nodes and no rendezvous.
    """
    if job.nodes > 1 and not rendezvous:
        raise ConfigError(f"{job.nodes} nodes find each other at --rendezvous HOST:{_PORT}, the first node's name")
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(job.devices)]
    if job.nodes == 1:
        start.append("--standalone")
    else:
        host, _, port = str(rendezvous).partition(":")
        start += ["--nnodes", str(job.nodes), "--rdzv-backend", "c10d"]
        start += ["--rdzv-endpoint", f"{host}:{port or _PORT}", "--rdzv-id", job.out.absolute().name or job.name]
    if restarts:
        start = [*_FRESH_STORE, *start, "--max-restarts", str(restarts)]
    return [*start, "--no-python", *job.command]
