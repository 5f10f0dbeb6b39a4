"""The shards of one evaluation become the evaluation: every image once, or a refusal that says what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from eval.looks import copy_looks
from eval.outcomes import Outcomes, read_header, read_outcomes, write_outcomes
from eval.results import Result, write_csv, write_results
from eval.rows import Rows

PREFIX = "outcomes-"
COPIED = ("config.yaml", "env.json", "examples.json", "examples.safetensors")
_FOLDER = re.compile(r"shard-(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Part:
    """The outcomes of one shard on one data set.

    Attributes:
        file: where they were read.
        header: what they belong to: rows, start, total, images, shard, config, weights.
        outcomes: of its images.
    """

    file: Path
    header: dict[str, Any]
    outcomes: Outcomes

    @property
    def start(self) -> int:
        """Position of its first image."""
        return int(self.header["start"])

    @property
    def end(self) -> int:
        """Position after its last image."""
        return self.start + len(self.outcomes.keys)


def shard_folder(out: Path, number: int, count: int) -> Path:
    """Where shard ``number`` of ``count`` goes."""
    return out / f"shard-{number}-of-{count}"


def shards_in(folder: Path) -> list[Path]:
    """The shards of an evaluation that a folder holds, in order."""
    found = [(int(m[1]), path) for path in folder.glob("shard-*") if (m := _FOLDER.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def is_shard(folder: Path) -> bool:
    """Whether a run folder holds only a part of an evaluation."""
    return any(read_header(file).get("shard", "1/1") != "1/1" for file in folder.glob(PREFIX + "*.json"))


def merge(folders: Sequence[Path], out: Path) -> Path:
    """``out`` with the whole evaluation: rows, outcomes, config, environment, examples and notes.

    Args:
        folders: of the shards, in any order.
        out: folder.

    Raises:
        ConfigError: a shard is unfinished, damaged or of another evaluation, or images are missing or there twice.
    """
    parts = [part for folder in folders for part in _read(folder)]
    rows: list[Result] = []
    for dataset in dict.fromkeys(part.file.name for part in parts):
        mine = sorted((part for part in parts if part.file.name == dataset), key=lambda part: part.start)
        _check(mine, folders)
        outcomes = Outcomes()
        for part in mine:
            outcomes.extend(part.outcomes)
        writer = Rows.from_json(mine[0].header["rows"])
        rows += writer.of(outcomes)
        _write_whole(out / dataset, outcomes, mine[0])
    write_results(out / "results.jsonl", rows)
    write_csv(out / "results.csv", rows)
    _copy(folders, out)
    return out


def _write_whole(file: Path, outcomes: Outcomes, part: Part) -> None:
    write_outcomes(file, outcomes, **{**part.header, "start": 0, "shard": "1/1"})


def _read(folder: Path) -> list[Part]:
    files = sorted(folder.glob(PREFIX + "*.json"))
    if not files:
        raise ConfigError(f"{folder} holds no finished shard; start its command again")
    parts = []
    for file in files:
        header = {k: v for k, v in read_header(file).items() if k not in ("keys", "cells")}
        if not {"rows", "start", "total", "images", "shard", "config", "weights"} <= header.keys():
            raise ConfigError(f"{file} is damaged (it says not what it belongs to); evaluate that shard again")
        parts.append(Part(file, header, read_outcomes(file)))
    return parts


def _check(parts: list[Part], folders: Sequence[Path]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for name, what in (("config", "config"), ("weights", "weights"), ("images", "list of images")):
            if part.header[name] != first.header[name]:
                raise ConfigError(f"{part.file} and {first.file} were made with another {what}; they cannot be merged")
        if part.outcomes.draws.keys() != first.outcomes.draws.keys():
            raise ConfigError(f"{part.file} and {first.file} hold other attacks; they cannot be merged")
        if part.outcomes.scores.keys() != first.outcomes.scores.keys():
            old = min(part, first, key=lambda p: len(p.outcomes.scores))
            raise ConfigError(f"{old.file} holds no scores of gates, others do; delete its shard and evaluate it again")
    reached = 0
    for part in parts:
        if part.start < reached:
            raise ConfigError(f"{part.file} holds images {part.start + 1} to {reached} again; leave one of them out")
        if part.start > reached:
            raise ConfigError(f"images {reached + 1} to {part.start} are missing; {_missing(parts, part.header)}")
        reached = part.end
    if reached < int(first.header["total"]):
        raise ConfigError(
            f"images {reached + 1} to {first.header['total']} are missing; {_missing(parts, first.header)}"
        )
    if len(parts) < len(folders):
        raise ConfigError(f"not every shard holds {first.file.name}; start those that do not again")


def _missing(parts: list[Part], header: dict[str, Any]) -> str:
    count = int(header["shard"].split("/")[1])
    there = {int(part.header["shard"].split("/")[0]) for part in parts}
    absent = [f"--shard {i}/{count}" for i in range(1, count + 1) if i not in there]
    return f"run {', '.join(absent)}" if absent else "a shard is not finished; start its command again"


def _copy(folders: Sequence[Path], out: Path) -> None:
    for name in COPIED:
        source = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if source is not None:
            write_atomically(out / name, source.read_bytes())
    notes: list[Any] = []
    for folder in folders:
        copy_looks(folder, out)
        file = folder / "notes.json"
        notes += [
            note
            for note in (json.loads(file.read_text(encoding="utf-8")) if file.is_file() else [])
            if note not in notes
        ]
    if notes:
        write_atomically(out / "notes.json", json.dumps(notes))
