"""Faults in a training that a self-test must survive or find; as a program, the command to run follows the fault."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

BROKEN_STEP = 3  # counted from 0
WEIGHTS = "weights-rank{}.csv"


def broken_batch() -> None:
    """A loss of the second process is not a number; every process notes its weights before each step."""
    from modules.lightning.finetuning import AdversarialFineTuning

    original = AdversarialFineTuning.training_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        with (Path(self.trainer.default_root_dir) / WEIGHTS.format(self.global_rank)).open(
            "a", encoding="utf-8"
        ) as file:
            file.write(f"{self.global_step},{_digest(self)}\n")
        loss = original(self, batch, batch_idx)
        return loss * float("nan") if self.global_rank == 1 and self.global_step == BROKEN_STEP else loss

    AdversarialFineTuning.training_step = training_step


def forgotten_draws() -> None:
    """The loss draws from a generator that nobody brings back after an interruption."""
    import numpy as np

    from modules.lightning.finetuning import AdversarialFineTuning
    from train.draws import SeedEveryBatch

    original = AdversarialFineTuning.training_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return original(self, batch, batch_idx) * (1 + np.random.rand())

    def seeds_once(self: Any, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 0:
            np.random.seed(trainer.global_rank)

    AdversarialFineTuning.training_step = training_step
    SeedEveryBatch.on_train_batch_start = seeds_once  # pyright: ignore[reportAttributeAccessIssue]


def lost_batch() -> None:
    """A run that goes on leaves a batch out."""
    from data.plan import PositionBatches

    original = PositionBatches.__init__

    def starts_late(self: Any, *, start_position: int = 0, batch_size: int, **settings: Any) -> None:
        late = batch_size if start_position else 0
        original(self, start_position=start_position + late, batch_size=batch_size, **settings)

    PositionBatches.__init__ = starts_late


def orphan() -> None:
    """A training starts a process that outlives it."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)


FAULTS: dict[str, Callable[[], None]] = {
    "broken-batch": broken_batch,
    "forgotten-draws": forgotten_draws,
    "lost-batch": lost_batch,
    "orphan": orphan,
}


def plant(name: str) -> None:
    """Let the fault happen in trainings of this process."""
    FAULTS[name]()


def _digest(module: Any) -> str:
    found = hashlib.blake2b(digest_size=8)
    for parameter in module.parameters():
        found.update(parameter.detach().cpu().numpy().tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    plant(sys.argv.pop(1))
    from launch.cli import main

    main()
