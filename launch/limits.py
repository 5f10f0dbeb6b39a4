"""What a process may have of its machine, and how it gets by with less."""

from __future__ import annotations

import resource

_WANTED, _FEW = 65536, 1024


def allow_open_files() -> int:
    """Raise the limit of open files as far as the system lets this process, and return it.

    Where it remains low, processes that read data pass their batches by name: by default torch passes an open file for
    every tensor.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = limit
    if soft != resource.RLIM_INFINITY and soft < _FEW:
        import torch.multiprocessing

        torch.multiprocessing.set_sharing_strategy("file_system")
    return soft
