"""Processes go on from one checkpoint: the first process chooses it and tells the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.distributed import DistNetworkError

from configs.family import first_line
from configs.files import ConfigError
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

    Raises:
        ConfigError: in every process, what ``choose`` refuses in the first; there, or in the fit.  The processes
            cannot connect, for instance because their port is in use.
    """
    strategy = trainer.strategy

    def agree() -> None:
        strategy.connect(module)
        _meet(strategy)
        chosen, fault = strategy.broadcast(_told(choose) if trainer.is_global_zero else (None, ""))
        if fault:
            raise ConfigError(fault)  # in all of them: nobody waits for who has gone
        trainer.ckpt_path = chosen

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


def _meet(strategy: Any) -> None:
    """Connect the processes; Lightning does it again and finds it done."""
    try:
        strategy.setup_environment()
    except DistNetworkError as error:
        where = f"{os.environ.get('MASTER_ADDR', 'localhost')}:{os.environ.get('MASTER_PORT', '?')}"
        reason = "is in use" if "EADDRINUSE" in str(error) else f"cannot be reached ({first_line(error)[:120]})"
        raise ConfigError(
            f"the processes cannot connect: {where} {reason}; set another MASTER_PORT, or none"
        ) from error


def _told(choose: Callable[[], Path | None]) -> tuple[Path | None, str]:
    """The checkpoint, and why there is none."""
    try:
        return choose(), ""
    except ConfigError as error:
        return None, str(error)
