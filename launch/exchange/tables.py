"""Results in the layouts of others: RobustBench's model information, clip_benchmark's JSON and CSV.

Fields that an evaluation does not know are left out, never filled in.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from eval.plain_text import cell
from eval.results import WORST, Result
from eval.tables import CLEAN, ROBUST, percent, plain, radius
from launch.exchange.results import Measured

_CLIP_BENCHMARK = ("dataset", "model", "pretrained", "task", "language", "acc1")


def robustbench(measured: Measured, dataset: str, model: str) -> dict[str, Any]:
    """RobustBench's JSON of the undefended encoder on one data set; values are texts, as there.

    ``autoattack_acc`` stands for standard AutoAttack alone; the worst case over other attacks is ``external``.

    Raises:
        ConfigError: there is no clean or no robust number.
    """
    bare = measured.of(dataset, defense="none")
    clean = next((row for row in bare if row.metric == CLEAN), None)
    robust = [row for row in bare if row.metric == ROBUST]
    worst = next((row for row in robust if row.attack == WORST), None)
    if clean is None or worst is None:
        raise ConfigError(
            f"no clean and worst-case accuracy of the bare encoder on {plain(dataset)}; evaluate it first"
        )
    attacks = [row for row in robust if row.attack == "autoattack" and row.eps == worst.eps]
    auto = None if any(row.cumulative for row in attacks) else min((row.value for row in attacks), default=None)
    found: dict[str, Any] = {
        "name": plain(clean.encoder),
        "number_forward_passes": 1,
        "dataset": plain(dataset),
        "architecture": plain(model),
        "norm": {"linf": "Linf", "l2": "L2", "l1": "L1"}.get(worst.norm, plain(worst.norm)),
        "eps": radius(worst.eps) if worst.norm == "linf" else f"{worst.eps:g}",
        "clean_acc": _two(clean),
    }
    if auto is not None:
        found["autoattack_acc"] = f"{100 * auto:.2f}"
    if auto is None or worst.value < auto:
        found["external"] = _two(worst)
    found["footnote"] = _footnote(measured, dataset, clean, worst)
    return found


def _footnote(measured: Measured, dataset: str, clean: Result, worst: Result) -> str:
    """On how many images, by which attacks, how sure, and every doubt."""
    robust = measured.of(dataset, defense="none", metric=ROBUST)
    attackers = sorted({plain(row.attack) for row in robust if row.attack != WORST})
    doubts = [plain(doubt.text) for card in measured.cards if card.dataset == dataset for doubt in card.doubts]
    interval = f"{percent(worst.low)} to {percent(worst.high)}"
    said = f"{clean.n} images, attacks: {', '.join(attackers)}; 95 % interval of the worst case {interval}. Zero-shot."
    return " ".join([said, *doubts])


def _two(row: Result) -> str:
    return f"{100 * row.value:.2f}"


def clip_benchmark(measured: Measured, model: str, pretrained: str) -> list[dict[str, Any]]:
    """clip_benchmark's results of the undefended encoder, a data set each; top-1 accuracy is what outcomes hold.

    Raises:
        ConfigError: there is no clean number.
    """
    rows = [row for row in measured.rows if row.metric == CLEAN and row.defense == "none"]
    if not rows:
        raise ConfigError("no clean accuracy of the bare encoder; evaluate it with the defence none first")
    last = {row.dataset: row for row in rows}
    return [
        {
            "dataset": plain(row.dataset),
            "model": plain(model),
            "pretrained": plain(pretrained),
            "task": "zeroshot_classification",
            "metrics": {"acc1": row.value},
            "language": "en",
        }
        for row in last.values()
    ]


def write_clip_benchmark(out: Path, results: list[dict[str, Any]]) -> None:
    """Write results as CSV where ``out`` ends so, else as JSON, one data set a file where there are several."""
    if out.suffix == ".csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, _CLIP_BENCHMARK)
        writer.writeheader()
        for result in results:
            flat = {**{k: v for k, v in result.items() if k != "metrics"}, **result["metrics"]}
            writer.writerow({name: cell(value) for name, value in flat.items()})
        write_atomically(out, buffer.getvalue())
        return
    for number, result in enumerate(results):
        file = out if number == 0 else out.with_name(f"{out.stem}_{number + 1}{out.suffix}")
        write_atomically(file, json.dumps(result))
