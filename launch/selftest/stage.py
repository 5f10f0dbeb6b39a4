"""A small training that several processes may share in any number, and what a self-test does with it."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.selftest.recipe import Disturbed
from launch.selftest.start import Life, Starter

GENTLE = (
    # under l2 a step moves smoothly with the gradient; under linf rounding decides the sign of what is nearly zero
    *("threat={norm: l2, eps: 0.3}", "attack={name: pgd, steps: 2, step_size: 0.15, keep: last}"),
    # Adam divides by a gradient's own size: where that is rounding alone, only a large eps keeps two sums together
    *("optimizer.eps=1.0", "optimizer.lr=1.0e-4", "optimizer.warmup_steps=1"),
    *("data.split=tune", "data.batch_size=24", "data.workers=1", "evaluation=null"),
    *(
        "trainer.accelerator=cpu",
        "trainer.log_every=1",
        "trainer.checkpoint_every=4",
        "trainer.keep=2",
        "trainer.record_samples=true",
    ),
)
LONGEST = 1800.0
"""Seconds after which a training counts as one that hangs."""


@dataclass(frozen=True)
class Stage:
    """Where the self-tests of several processes play.

    Attributes:
        starter: of the processes.
        out: folder for the runs.
        quick: fewer and shorter.
        planted: a fault that must be found.
    """

    starter: Starter
    out: Path
    quick: bool
    planted: str = ""

    @property
    def training(self) -> Disturbed:
        """Two epochs of the embedded images, one where it has to be quick."""
        steps = 14 if self.quick else 26
        return Disturbed("finetune", ("fare_tiny_eps4", *GENTLE, f"optimizer.max_steps={steps}"))

    def start(
        self, name: str, processes: int, *, training: Disturbed | None = None, planted: str = "", part: str = ""
    ) -> Life:
        """Start a run, or go on with it; ``part`` tells the logs of several starts apart."""
        words = (training or self.training).on(processes, self.out / name)
        log = self.out / "logs" / f"{name}{part}.txt"
        return self.starter.start(words, log, processes=processes, planted=planted or self.planted)

    def run(self, name: str, processes: int, *, training: Disturbed | None = None, part: str = "") -> list[str]:
        """Why a run did not end well; nothing where it did."""
        return ended(self.start(name, processes, training=training, part=part))


def ended(life: Life, patience: float = LONGEST) -> list[str]:
    """Why processes did not end well; nothing where they did."""
    if life.wait(patience) is None:
        return [f"still running after {patience:.0f} s"]
    return [] if set(life.codes()) == {0} else [f"ended with {life.codes()}: {life.last_words()}"]


def curve(run: Path) -> dict[int, float]:
    """The losses of a run by step."""
    file = run / "metrics.csv"
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        return {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(lines) if row["train/loss"]}


def wait_for_step(life: Life, run: Path, step: int) -> list[str]:
    """Why a run did not reach a step; nothing where it did and goes on."""
    end = time.monotonic() + LONGEST
    while max(curve(run), default=0) < step:
        if not life.running() or time.monotonic() > end:
            return [f"never came to step {step}: {life.codes()}, {life.last_words()}"]
        time.sleep(0.01)
    return []


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest relative difference of two curves; infinite where their lengths differ."""
    if len(one) != len(other) or not one:
        return float("inf")
    return max(abs(a - b) / max(abs(a), 1e-12) for a, b in zip(one, other, strict=True))
