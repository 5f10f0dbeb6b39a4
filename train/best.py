"""Which checkpoint of a run is the best, by a number that the run has written down."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

from configs.files import write_atomically
from eval.results import read_results

FILE = "best.json"
_SMALL = ("loss", "denoising")  # numbers with these words in their names are better the smaller they are


class BestCheckpoint:
    """Knows the best checkpoint; ``checkpoints/best.json`` says which it is.

    Its only state are the run's files: values by step from ``metrics.csv`` and, once a checkpoint is evaluated, from
    ``results.jsonl``.  Nothing has to be remembered over an interruption.

    Args:
        run: folder of the run.
        said: name of a number, such as ``val/loss`` or ``eval/classification/…/robust_accuracy``; the smallest is the
            best where its name says loss, else the largest, unless ``min`` or ``max`` stands before the name.
    """

    def __init__(self, run: Path, said: str, /) -> None:
        self.run = run
        first, _, rest = said.strip().partition(" ")
        self.name = rest.strip() if first in ("min", "max") and rest else said.strip()
        self.least = any(word in self.name for word in _SMALL) if self.name == said.strip() else first == "min"

    def among(self, checkpoints: dict[int, Path]) -> int | None:
        """The step of the best one, the earliest of equals; None where the number is known of none.

        Args:
            checkpoints: by step.
        """
        known = {step: value for step, value in self.values().items() if step in checkpoints and math.isfinite(value)}
        if not known:
            return None
        step = min(known, key=lambda step: (known[step] if self.least else -known[step], step))
        self._write(step, known[step], checkpoints[step])
        return step

    def values(self) -> dict[int, float]:
        """The number by step."""
        found: dict[int, float] = {}
        metrics, results = self.run / "metrics.csv", self.run / "results.jsonl"
        if metrics.is_file():
            with metrics.open(newline="", encoding="utf-8") as file:
                found |= {int(row["step"]): float(row[self.name]) for row in csv.DictReader(file) if row.get(self.name)}
        if self.name.startswith("eval/") and results.is_file():
            found |= {row.step: row.value for row in read_results(results) if row.key == self.name}
        return found

    def names(self) -> list[str]:
        """Names of the numbers that there are so far."""
        metrics, results = self.run / "metrics.csv", self.run / "results.jsonl"
        found: list[str] = []
        if metrics.is_file():
            with metrics.open(newline="", encoding="utf-8") as file:
                found = [name for name in csv.DictReader(file).fieldnames or () if name != "step"]
        rows = read_results(results) if results.is_file() else []
        return [*found, *dict.fromkeys(row.key for row in rows)]

    def _write(self, step: int, value: float, path: Path) -> None:
        file = path.with_name(FILE)
        said = {"metric": self.name, "value": value, "step": step, "checkpoint": path.name}
        text = json.dumps(said, indent=1)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_atomically(file, text)
