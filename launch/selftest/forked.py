"""A command in a process that was forked from one which has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import sys


def run_command(words: list[str], told: dict[str, str], log: str, planted: str) -> None:
    """Run ``robustclip`` with these words, as a process of its own would.

    Args:
        words: behind the program's name.
        told: variables of its launcher.
        log: file for all that it says.
        planted: a fault of ``launch.selftest.planted``; none where empty.
    """
    from launch.selftest.start import clean

    os.setsid()
    usual = multiprocessing.get_all_start_methods()[0]
    multiprocessing.set_start_method(usual, force=True)  # its own way would become that of its readers of data
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.close(out)
    variables = {**clean(os.environ), **told}
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["robustclip", *words]
    if planted:
        from launch.selftest.planted import plant

        plant(planted)
    from launch.cli import main

    main()
