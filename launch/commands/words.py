"""Arguments and options that several commands share, and what was typed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[str, typer.Argument(help="A shipped recipe's name, or a .yaml file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value, e.g. trainer.devices=8", metavar="[KEY=VALUE]..."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for what is written.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Build all but weights and data; print shapes, counts and the plan."),
]
AllowMismatch = Annotated[
    bool,
    typer.Option("--allow-mismatch", help="Use a prior that belongs to another encoder; every row says so."),
]

ShardsArgument = Annotated[
    str, typer.Argument(help="A folder of shards, x-{0..9}.tar, or such tars at https://, s3://, gs://.")
]
CacheGiB = Annotated[float | None, typer.Option("--cache", help="GiB that fetched shards may take.")]
CacheDir = Annotated[str | None, typer.Option("--cache-dir", help="Folder for fetched shards.")]


def typed() -> str:
    """The command as it was typed, for the record."""
    return shlex.join(["robustclip", *sys.argv[1:]])


def allowed(overrides: list[str] | None, allow_mismatch: bool) -> list[str]:
    """The overrides, with what ``--allow-mismatch`` stands for."""
    return [*(overrides or []), *(["allow_mismatch=true"] if allow_mismatch else [])]
