"""Another process that is writing a folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLD = (
    "import sys; from pathlib import Path; from data.folder_lock import lock_folder; "
    "lock = lock_folder(Path(sys.argv[1]){}); print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def holder(folder: Path, how: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a folder until the block ends; ``how`` is further arguments of ``lock_folder``."""
    command = [sys.executable, "-c", HOLD.format(f", {how}" if how else ""), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
