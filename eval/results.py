"""One row per number: what was measured, on what, by which attacker, and how sure it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from configs.files import ConfigError, write_atomically
from eval.plain_text import cell

WORST = "worst"  # as attack and view: the per-sample worst case over all of them


@dataclass(frozen=True)
class Result:
    """A number of the evaluation.  Fields are added over time, never renamed.

    Attributes:
        task: e.g. ``classification``.
        dataset: e.g. ``digits``.
        n: number of samples behind ``value``.
        checkpoint: file or name the weights came from.
        step: training step of the weights; 0 for weights as loaded.
        encoder: display name, e.g. ``CLIP`` or ``R-CLIP_F``.
        defense: the defence's name in the recipe; ``none`` for the bare encoder.
        attack: the attack's name in the recipe; ``none`` (clean) or ``worst``.
        view: whose gradient the attacker followed; ``none`` (clean) or ``worst``.
        norm: ``linf``, ``l2`` or ``none``.
        eps: radius in [0, 1] pixels.
        metric: e.g. ``clean_accuracy``, ``robust_accuracy``.
        value: a fraction in [0, 1] for accuracies.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        seconds: wall-clock seconds it took.
        seed: of the evaluation.
        config: hash of the resolved configuration.
        artefact: a label that forbids reading the number as robustness, e.g. ``clipure-legacy``; empty if none.
        qualifier: what the number must be read with, e.g. that the prior belongs to another encoder; empty if nothing.
        resolution: side in pixels of the images that were attacked; 0 where it is not known.
        prompts: hash of class names and templates; empty where it is not known.
        protocol: name and hash of the published protocol that the number is of; empty if of none.
        cumulative: the attack met only what earlier attacks of its view left standing, and the value counts them too.
    """

    task: str
    dataset: str
    n: int
    checkpoint: str
    step: int
    encoder: str
    defense: str
    attack: str
    view: str
    norm: str
    eps: float
    metric: str
    value: float
    low: float
    high: float
    seconds: float
    seed: int
    config: str
    artefact: str = ""
    cumulative: bool = False
    qualifier: str = ""
    resolution: int = 0
    prompts: str = ""
    protocol: str = ""

    @property
    def key(self) -> str:
        """The metric key of loggers, ``eval/<task>/<dataset>/<defense>/<attack>/<view>/<metric>``."""
        parts = (self.task, self.dataset, self.defense, self.attack, self.view, self.metric)
        return "/".join(("eval", *parts))


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write rows as JSON lines, all or nothing."""
    write_atomically(path, "".join(json.dumps(asdict(row)) + "\n" for row in results))


def read_results(path: Path) -> list[Result]:
    """Read the rows of a ``results.jsonl``; fields of later versions are ignored.

    Raises:
        ConfigError: the file is missing, or a line is not a row (names the line).
    """
    if not path.is_file():
        raise ConfigError(f"no results at {path}; run an evaluation there first")
    known = {f.name for f in fields(Result)}
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append(Result(**{k: v for k, v in row.items() if k in known}))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{path}:{number} is not a result row: {error}") from error
    return rows


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write rows as CSV; texts in it are plain, and none is a formula."""
    import io

    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [f.name for f in fields(Result)])
    writer.writeheader()
    for row in results:
        writer.writerow({k: cell(v) for k, v in asdict(row).items()})
    write_atomically(path, buffer.getvalue())
