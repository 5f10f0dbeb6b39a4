"""How soon the command line answers: help, and a recipe with a fault, before the large libraries are imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import torch

from eval.speed import Record
from launch.bench.race import race

HEAVY = ("torch", "pytorch_lightning", "open_clip")
"""Libraries whose import takes long; the others come with them."""
COMMANDS = {
    "help": ["--help"],
    "help_of_finetune": ["finetune", "--help"],
    "wrong_recipe": ["finetune", "fare_tiny_eps4", "optimizer.lr=-1", "attack.steps=many"],
}


def startup(*, quick: bool, device: torch.device, rounds: int) -> Record:
    """Seconds from nothing to an answer, and which of the large libraries were imported for it.

    Args:
        quick: fewer rounds.
        device: not used.
        rounds: repetitions.
    """
    record = Record("start-up", "whole commands in processes of their own, in seconds; and libraries they imported")
    cases = {name: _whole(words) for name, words in COMMANDS.items()}
    cases["python"] = _whole(None)
    timings = race(cases, rounds=2 if quick else rounds, title="start-up")
    record.timings |= timings
    for name, words in COMMANDS.items():
        record.facts[f"{name}_seconds"] = timings[name].low
        found = imported(words)
        for library in HEAVY:
            record.facts[f"{name}_imports_{library}"] = float(library in found)
    record.goals |= {"help_seconds": "below 0.5", "help_imports_torch": "0"}
    record.goals |= {f"wrong_recipe_imports_{library}": "0" for library in ("pytorch_lightning", "open_clip")}
    return record


def _command(words: list[str] | None, *options: str) -> list[str]:
    run = "import sys; sys.argv[0] = 'robustclip'; from launch.cli import main; main()"
    return [sys.executable, *options, "-c", "" if words is None else run, *(words or [])]


def _whole(words: list[str] | None) -> Callable[[], object]:
    return lambda: subprocess.run(_command(words), capture_output=True)


def imported(words: list[str]) -> set[str]:
    """Names of the modules that a command imports."""
    said = subprocess.run(_command(words, "-X", "importtime"), capture_output=True, text=True).stderr
    return {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}
