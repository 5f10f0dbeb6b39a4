"""Arguments and options that several commands share, and what was typed."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from data.home import at_home, text_at_home

Recipe = Annotated[str, typer.Argument(help="A shipped recipe's name, or a .yaml file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="key=value, e.g. trainer.devices=8 or eps=4, which is 4/255 as eps=4/255 is (of linf; under l2 and l1 a "
        "radius is in [0, 1] pixels). Texts are taken as typed; key=null is no value, key='null' the text.",
        metavar="[KEY=VALUE]...",
    ),
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


class CommandGroup(typer.Typer):
    """Commands whose paths may begin with ``~``, also where no shell has expanded it, as in ``--out=~/x``."""

    def command(self, *args: Any, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a command; see ``typer.Typer.command``."""
        register = super().command(*args, **options)
        return lambda function: register(_with_paths_at_home(function))


def _with_paths_at_home(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(**values: Any) -> Any:
        return function(**{name: _at_home(value) for name, value in values.items()})

    return run


def _at_home(value: Any) -> Any:
    """Paths and names are expanded; lists of texts are overrides, which are expanded as they are declared."""
    if isinstance(value, list):
        return [at_home(one) if isinstance(one, Path) else one for one in value]
    if isinstance(value, Path):
        return at_home(value)
    return text_at_home(value) if isinstance(value, str) else value


def typed() -> str:
    """The command as it was typed, for the record."""
    return shlex.join(["robustclip", *sys.argv[1:]])


def allowed(overrides: list[str] | None, allow_mismatch: bool) -> list[str]:
    """The overrides, with what ``--allow-mismatch`` stands for."""
    return [*(overrides or []), *(["allow_mismatch=true"] if allow_mismatch else [])]
