"""Processes go on from one checkpoint: the first process chooses it and tells the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl


def go_on_together(trainer: pl.Trainer, module: pl.LightningModule, choose: Callable[[], Path | None]) -> None:
    """Have the trainer's next fit start from the checkpoint that the first process chooses.

    Processes on several nodes may see different files in one folder for a while.  They can tell each other only once
    they have been started and have met, which Lightning sees to when it fits; so the choice is made in between.

    Args:
        trainer: of the fit that follows.
        module: that will be trained.
        choose: finds the newest checkpoint; asked in the first process only.
    """
    strategy = trainer.strategy
    if strategy.launcher is None:
        trainer.ckpt_path = choose()
        return
    launch = strategy.launcher.launch

    def launch_and_agree(function: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        def agreed(*args: Any, **settings: Any) -> Any:
            strategy.connect(module)
            strategy.setup_environment()  # Lightning does both again and finds them done
            trainer.ckpt_path = strategy.broadcast(choose() if trainer.is_global_zero else None)
            return function(*args, **settings)

        return launch(agreed, *args, **settings)

    strategy.launcher.launch = launch_and_agree
