"""Processes go on from one checkpoint: the first process chooses it and tells the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from data.parent import STARTED_BY


def go_on_together(trainer: pl.Trainer, module: pl.LightningModule, choose: Callable[[], Path | None]) -> None:
    """Have the trainer's next fit start from the checkpoint that the first process chooses.

    Processes on several nodes may see different files in one folder for a while.  They can tell each other only once
    all of them run, and some are started by Lightning's launcher at the beginning of the fit: then the choice is made
    behind that.

    Args:
        trainer: of the fit that follows.
        module: that will be trained.
        choose: finds the newest checkpoint; asked in the first process only.
    """
    strategy = trainer.strategy

    def agree() -> None:
        strategy.connect(module)
        strategy.setup_environment()  # here processes meet; Lightning does both again and finds them done
        trainer.ckpt_path = strategy.broadcast(choose() if trainer.is_global_zero else None)

    if strategy.launcher is None:  # a process alone, or all have been started
        agree()
        return
    launch = strategy.launcher.launch

    def launch_and_agree(function: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        def agreed(*args: Any, **settings: Any) -> Any:
            agree()
            return function(*args, **settings)

        os.environ[STARTED_BY] = str(os.getpid())
        return launch(agreed, *args, **settings)

    strategy.launcher.launch = launch_and_agree
