"""Evaluations from the command line: a checkpoint, its shards, and the page."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from configs.load import load_config
from configs.overrides import in_full, key_of, keys_of, override, value_of
from data.home import text_at_home
from launch.launchers.ranks import processes_of, rank_of, validate_launch

TURN = 60.0
"""Seconds that a process waits while another one writes the same page or record."""


def run_evaluation(
    checkpoint: str,
    recipe: str,
    overrides: Sequence[str],
    out: Path | None,
    *,
    dry_run: bool,
    command: str,
    shard: str = "1/1",
) -> None:
    """Evaluate a checkpoint file, or a model by name; whole, one shard, or this rank's part.

    Raises:
        ConfigError: every fault of the recipe and the overrides, or the checkpoint is missing.
    """
    overrides = in_full("evaluate", overrides)
    config = load_config("evaluate", recipe, [*overrides, *told_by(checkpoint, overrides)])
    if dry_run:
        from launch.dry_run import show_plan

        show_plan("evaluate", Path(recipe).stem, config)
        return
    number, count, ranks = part_of(shard)
    if count == 1:
        folder = _judge(config, recipe, out, (1, 1), command)
        show_results(folder)
        return
    if out is None:
        raise ConfigError("a part of an evaluation needs --out, the same for all parts")
    from eval.merge import merge, shard_folder, shards_in

    folder = _judge(config, recipe, shard_folder(out, number, count), (number, count), command)
    if ranks and last_of_all(number):
        show_results(merge(shards_in(out), out))
    elif not ranks:
        print(f"shard {number} of {count}: {folder}\njoin the shards: robustclip report {out}")


def told_by(checkpoint: str, overrides: Sequence[str]) -> list[str]:
    """The overrides that a checkpoint's file or folder, or a model's name, stand for.

    A folder with ``open_clip_config.json`` is a model by itself, unless another is named as its base.  A head is named
    beside its encoder.

    Raises:
        ConfigError: the file is missing.
    """
    checkpoint = text_at_home(checkpoint)
    told = _told_alone(checkpoint, overrides)
    head = value_of(overrides, "model.head")
    if head in (None, "", "null") or _names_encoder(overrides):
        return told
    name = f"{Path(checkpoint).stem if Path(checkpoint).is_file() else checkpoint} + {Path(head).stem}"
    return [*(text for text in told if key_of(text) != "encoder"), override("encoder", name)]


def _told_alone(checkpoint: str, overrides: Sequence[str]) -> list[str]:
    named = checkpoint.startswith(("hf-hub:", "local-dir:", "timm/"))
    if named or not (Path(checkpoint).suffix or Path(checkpoint).exists()):
        _refuse_two("model.name", checkpoint, overrides)
        return [override("model.name", checkpoint)]
    if (Path(checkpoint) / "open_clip_config.json").is_file() and "model.name" not in keys_of(overrides):
        told = [override("model.name", f"local-dir:{Path(checkpoint).resolve()}")]
        return [*told, *([] if _names_encoder(overrides) else [override("encoder", Path(checkpoint).resolve().name)])]
    if not Path(checkpoint).exists():
        raise ConfigError(f"no checkpoint at {checkpoint}")
    _refuse_two("model.checkpoint", checkpoint, overrides)
    told = [override("model.checkpoint", str(Path(checkpoint).resolve()))]
    if not _names_encoder(overrides):
        told.append(override("encoder", Path(checkpoint).stem))
    return told


def _refuse_two(key: str, word: str, overrides: Sequence[str]) -> None:
    """Refuse an override that names another model than the first word does; one of them would be ignored."""
    other = value_of(overrides, key)
    if other not in (None, "null", word):
        raise ConfigError(f"{word} and {key}={other} name two models; leave one of them out")


def _names_encoder(overrides: Sequence[str]) -> bool:
    return "encoder" in keys_of(overrides)


def part_of(shard: str) -> tuple[int, int, bool]:
    """Number and count of the part to judge, and whether it is a rank's."""
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard {shard} is no part; say 3/8 for the third of eight")
    number, count = int(found[1]), int(found[2])
    ranks = "RANK" in os.environ
    if ranks:
        validate_launch()
    world = processes_of() if ranks else 1
    if world > 1 and count > 1:
        raise ConfigError("--shard and several ranks at once cannot be; leave out one of them")
    return (rank_of() + 1, world, True) if world > 1 else (number, count, False)


def last_of_all(number: int) -> bool:
    """Wait until every rank is done; True on the first rank."""
    from datetime import timedelta

    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(days=7))
    dist.barrier()
    dist.destroy_process_group()
    return number == 1


def _judge(config: Any, recipe: str, out: Path | None, shard: tuple[int, int], command: str) -> Path:
    from eval.evaluate import evaluate_checkpoint
    from train.runs import open_run

    run = open_run(Path(recipe).stem, config, out, command=command)
    if not run.finished:
        evaluate_checkpoint(config, run.folder, command=command, shard=shard)
        write_atomically(run.folder / "done", "")
    return run.folder


def show_results(folder: Path) -> None:
    """Print a run's table and write its page."""
    run_report([folder], None)


def run_report(runs: Sequence[Path], out: Path | None) -> None:
    """Write the page of some runs and print their table; the shards of an evaluation are joined first.

    Raises:
        ConfigError: a folder holds no results, or shards do not make a whole.
    """
    from data.folder_lock import locked_folder
    from data.terminal import terminal
    from eval.detectors import detection_table
    from eval.measured import measured_table
    from eval.prior_health import health_table
    from eval.prior_record import has_record, read_record
    from eval.protocols.record import has_record as of_protocol
    from eval.report import build_report, rows_of
    from eval.speed import read_speed, speed_table
    from eval.tables import terminal_table
    from launch.protocols import show_protocol

    if missing := [run for run in runs if not run.is_dir()]:
        raise ConfigError(f"no run folder at {missing[0]}; give a folder that holds results.jsonl")
    with locked_folder(out or runs[0] / "report", patience=TURN):
        runs = _joined(runs, out)
        page = build_report(runs, out or runs[0] / "report")
    rows = rows_of(runs)
    if rows:
        terminal().print(terminal_table(rows))
    tables = [speed_table(record) for found in map(read_speed, runs) if found for record in found.records]
    for table in (measured_table(rows), detection_table(rows), *tables):
        if table is not None:
            terminal().print(table)
    for run in filter(has_record, runs):
        record = read_record(run)
        terminal().print(health_table(record.last("val/"), record.measures))
    for run in filter(of_protocol, runs):
        show_protocol(run)
    print(f"report: {page}")


def _joined(runs: Sequence[Path], out: Path | None) -> list[Path]:
    from eval.merge import is_shard, merge, shards_in
    from eval.protocols.record import FILE as PROTOCOL
    from launch.protocols import gather

    whole, parts = [], []
    for run in runs:
        if (run / PROTOCOL).is_file():
            gather(run)
            whole.append(run)
        elif run.is_dir() and shards_in(run):
            whole.append(merge(shards_in(run), run))
        elif run.is_dir() and is_shard(run):
            parts.append(run)
        else:
            whole.append(run)
    if parts:
        whole.append(merge(parts, (out or parts[0].parent) / "joined"))
    return [place for run in whole for place in (run, *_watched_in(run))]


def _watched_in(run: Path) -> list[Path]:
    """Further evaluations that were made of a training's checkpoints."""
    return sorted(path.parent for path in run.glob("evaluations/*/results.jsonl"))
