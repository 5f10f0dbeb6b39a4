"""The gradients of a protocol's defences, and the reasons to doubt their numbers, kept beside an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from configs.schema import EvaluateConfig
from eval.card import Doubt
from eval.checks import number_doubts, probe_doubts
from eval.evaluate import load_subject
from eval.health import measure
from eval.judge import Judge
from eval.merge import PREFIX
from eval.outcomes import read_header, read_outcomes
from eval.plan import build_plan
from eval.progress import Ticker
from eval.protocols.plan import BARE
from eval.rows import Rows, Subject
from modules.encoders.base import frozen

FILE = "health.json"


def examine(config: EvaluateConfig, folder: Path, *, probes: int) -> None:
    """Write what the gradients and values of every defence look like on a few images of each set; once.

    Args:
        config: of the evaluation.
        folder: of it; gets ``health.json``.
        probes: images.

    Raises:
        ValueError: a defence failed, in one line.
    """
    if (folder / FILE).is_file():
        return
    clip, _ = load_subject(config.model)
    plan = build_plan(config, clip)
    names = [name for name, node in config.defenses.items() if (node or {}).get("name", name) != BARE]
    found: dict[str, dict[str, Any]] = {}
    with Ticker("gradients of the defences", len(plan.tasks) * len(names)) as ticker:
        for task in plan.tasks:
            judge = Judge(clip.image, plan, task, Subject(config.encoder))
            batch = next(task.whole_batches(probes)).to(judge.device)
            with frozen(judge.encoder):
                for name in names:
                    health = measure(judge, name, batch)
                    doubts = probe_doubts(judge, name, batch, health)
                    told = {"health": [asdict(one) for one in health], "doubts": [asdict(one) for one in doubts]}
                    found.setdefault(task.dataset, {})[name] = told
                    ticker.advance(1)
    write_atomically(folder / FILE, json.dumps(found, indent=1))


def read_health(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """What ``examine`` wrote, by set and defence; empty where it did not.

    Raises:
        ConfigError: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        for defenses in found.values():
            for told in defenses.values():
                told["doubts"] = [Doubt(**one) for one in told["doubts"]]
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{file} is damaged ({error}); delete it, and start the protocol again") from error


def doubts_of(folder: Path, dataset: str, defense: str) -> list[Doubt]:
    """Every doubt about a defence on a set: of its gradients and of its numbers, red ones first.

    Args:
        folder: of an evaluation.
        dataset: name of the set.
        defense: name of the defence.

    Raises:
        ConfigError: a file is damaged.
    """
    told = read_health(folder).get(dataset, {}).get(defense)
    file = folder / f"{PREFIX}{dataset}.json"
    doubts = list(told["doubts"]) if told else []
    if file.is_file():
        doubts += number_doubts(read_outcomes(file), Rows.from_json(read_header(file)["rows"]), defense)
    once = {doubt.name: doubt for doubt in sorted(doubts, key=lambda doubt: doubt.severity == "red")}
    return sorted(once.values(), key=lambda doubt: doubt.severity != "red")
