"""What is to run and on how many processes; every launcher makes its line or script of this."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Parts = Literal["ranks", "shards", "whole"]

KINDS: dict[str, Parts] = {
    "finetune": "ranks",
    "perceptual": "ranks",
    "prior": "ranks",
    "pretrain": "ranks",
    "evaluate": "shards",
    "embed": "whole",
    "tune": "whole",
}
"""How the processes of a kind share the work: one model together, a part of the images each, or not at all."""


@dataclass(frozen=True)
class Job:
    """One command of ``robustclip`` and the processes that it runs on.

    Attributes:
        kind: the command.
        words: what it is told: a recipe and key=value; before them a checkpoint, for an evaluation.
        out: the run's folder, which all processes agree on.
        nodes: machines.
        devices: processes per machine.
        program: the words that start ``robustclip``.
    """

    kind: str
    words: tuple[str, ...]
    out: Path
    nodes: int = 1
    devices: int = 1
    program: tuple[str, ...] = ("robustclip",)

    @property
    def parts(self) -> Parts:
        """How its processes share the work."""
        return KINDS[self.kind]

    @property
    def processes(self) -> int:
        """Over all nodes."""
        return self.nodes * self.devices

    @property
    def name(self) -> str:
        """The recipe's, and for an evaluation the checkpoint's before it."""
        count = 2 if self.kind == "evaluate" else 1
        return "-".join(Path(word).stem for word in self.words[:count])

    @property
    def command(self) -> list[str]:
        """The words of one process; trainings are told how many there are."""
        told = [f"trainer.devices={self.devices}", f"trainer.num_nodes={self.nodes}"] if self.parts == "ranks" else []
        return [*self.program, self.kind, *self.words, *told, "--out", str(self.out)]


def shown(command: Sequence[str]) -> str:
    """A command as a line for the shell, whatever characters its words hold."""
    return shlex.join(command)


def own_program() -> tuple[str, ...]:
    """The words that start ``robustclip`` in this environment, from any folder."""
    beside = Path(sys.executable).with_name("robustclip")
    script = str(beside) if beside.is_file() else shutil.which("robustclip")
    return (script,) if script else (sys.executable, "-m", "launch.cli")
