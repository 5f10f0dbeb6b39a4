"""From points to runs that can be started: configs checked together, a folder and the commands of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.evaluation import evaluation_config
from configs.files import ConfigError
from configs.load import config_hash, load_config, plain, to_yaml
from configs.overrides import keys_of, override, value_of
from eval.progress import Ticker
from launch.scorecard import TINY
from launch.sweep.expansion import Point

JUDGED = "judged"
"""Folder in a fine-tuning where its finished weights are evaluated, image by image."""


@dataclass(frozen=True)
class Stage:
    """One command of a run.

    Attributes:
        kind: the command.
        words: what it is told, without ``--out``.
        out: its folder.
        steps: optimizer steps, of a training; else 0.
    """

    kind: str
    words: tuple[str, ...]
    out: Path
    steps: int = 0

    @property
    def finished(self) -> bool:
        """Whether it has ended; an evaluation that was joined of its parts has only its outcomes."""
        if (self.out / "done").is_file():
            return True
        return self.kind == "evaluate" and any(self.out.glob("outcomes-*.json"))


@dataclass(frozen=True)
class Planned:
    """A run of a sweep.

    Attributes:
        point: its name and settings.
        config: checked.
        stages: its commands, in turn.
        judge: name and text of the recipe by which its finished weights are judged.
    """

    point: Point
    config: Any
    stages: tuple[Stage, ...]
    judge: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """Of the run."""
        return self.point.name

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return all(stage.finished for stage in self.stages)

    @property
    def results(self) -> Path:
        """Folder of its numbers."""
        return self.stages[-1].out


def plan_runs(kind: str, recipe: str, points: Sequence[Point], out: Path) -> list[Planned]:
    """The runs of a sweep, all checked.

    Raises:
        ConfigError: every fault of every run, each with the names of the runs that have it.
    """
    faults: dict[str, list[str]] = {}
    found: dict[str, list[str]] = {}
    runs = []
    with Ticker("check", len(points)) as ticker:
        for point in points:
            try:
                run = _planned(kind, recipe, point, out)
                runs.append(run)
                content = {**plain(run.config), "encoder": ""}
                found.setdefault(config_hash(content), []).append(point.name)
                told = _place_faults(run)
            except ConfigError as error:
                told = str(error).splitlines()
            for line in told:
                faults.setdefault(line, []).append(point.name)
            ticker.advance(1)
    lines = [f"{_names(names, len(points))}: {line}" for line, names in faults.items()]
    lines += [f"{' and '.join(names)} are the same run; leave one out" for names in found.values() if len(names) > 1]
    if lines:
        raise ConfigError("\n".join(lines))
    return runs


def _names(names: Sequence[str], of: int) -> str:
    if len(names) == of:
        return "every run" if of > 1 else names[0]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return "; ".join(names[:3]) + more


def _place_faults(run: Planned) -> list[str]:
    """A folder of the same name that is not of this run."""
    from train.runs import another_config, is_of

    folder = run.stages[0].out
    if not (folder / "config.yaml").is_file() or is_of(folder, run.config):
        return []
    return [another_config(folder, run.config)]


def _planned(kind: str, recipe: str, point: Point, out: Path) -> Planned:
    words = _words(kind, point)
    config = load_config(kind, recipe, words)
    folder = out / point.name
    if kind == "evaluate":
        stage = Stage(kind, (config.model.name, recipe, *words), folder)
    elif kind == "scorecard":
        stage = Stage(kind, (config.model.name, *words, "--budget", recipe), folder)
    else:
        stage = Stage(kind, (recipe, *words), folder, config.optimizer.max_steps)
    if kind != "finetune" or config.evaluation is None:
        return Planned(point, config, (stage,))
    judge = _judge(config)
    return Planned(point, config, (stage, _judging(judge[0], point.name, out)), judge)


def _words(kind: str, point: Point) -> list[str]:
    """The overrides of a run; a model that is judged is called as its run, and the embedded one knows its data."""
    words, said = list(point.words), keys_of(point.words)
    if kind in ("evaluate", "scorecard") and "encoder" not in said:
        words.append(override("encoder", point.name))
    if kind == "scorecard" and value_of(words, "model.name") == TINY and "data.shards" not in said:
        words.append("data.shards=digits")
    return words


def _judging(recipe: str, name: str, out: Path) -> Stage:
    """The evaluation of a fine-tuning once more, of its finished weights and with what every image came to."""
    weights = out / name / "export" / "encoder.safetensors"
    return Stage("evaluate", (str(weights), str(out / recipe), override("encoder", name)), out / name / JUDGED)


def _judge(config: Any) -> tuple[str, str]:
    """Name and text of the recipe by which the finished weights of a fine-tuning are judged."""
    found = evaluation_config(config.evaluation, model=plain(config.model))
    return f"judge-{config_hash(plain(found))[:6]}.yaml", to_yaml(found)


def judges(runs: Sequence[Planned]) -> dict[str, str]:
    """Files that the runs' evaluations read, by name."""
    return dict(run.judge for run in runs if run.judge)
