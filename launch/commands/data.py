"""Commands about shards of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.words import CacheDir, CacheGiB, CommandGroup, ShardsArgument

data_app = CommandGroup(no_args_is_help=True, help="Make and inspect shards of images.")


@data_app.command("make")
def data_make(
    source: Annotated[str, typer.Argument(help="A folder of class folders, or 'digits'.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the shards.")],
    split: Annotated[str, typer.Option(help="Name of the split that a folder becomes.")] = "test",
    per_shard: Annotated[int, typer.Option(help="Images per shard.")] = 1000,
    skip_bad: Annotated[bool, typer.Option(help="Leave out images that do not decode.")] = False,
) -> None:
    """Write webdataset shards from an image folder or from the embedded set.

    Example: robustclip data make photos --out shards --split train
    """
    from launch.job import make_data

    make_data(source, out, split=split, per_shard=per_shard, skip_bad=skip_bad)


@data_app.command("stats")
def data_stats(
    shards: Annotated[str, typer.Argument(help="digits, a folder of shards, x-{0..9}.tar, or such tars elsewhere.")],
    split: Annotated[str, typer.Option(help="Which split.")] = "test",
    workers: Annotated[int, typer.Option(help="Processes that decode.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print plain values.")] = False,
    cache: CacheGiB = None,
    cache_dir: CacheDir = None,
) -> None:
    """Count classes, sizes, shapes, formats, duplicates and colours of a data set, decoding each image once.

    Example: robustclip data stats shards --split train --workers 8 --json
    """
    from launch.data_stats import show_statistics

    show_statistics(shards, split, workers=workers, as_json=as_json, cache_gib=cache, cache_dir=cache_dir)


@data_app.command("index")
def data_index(
    shards: ShardsArgument,
    split: Annotated[str, typer.Option(help="Which split.")] = "train",
    cache: CacheGiB = None,
    cache_dir: CacheDir = None,
) -> None:
    """Write the index of each shard beside it, so that training starts at once.

    Indexes that fit stay as they are.  Upload them with the shards, and training from there starts at once too.

    Example: robustclip data index '/data/train-{0000..1023}.tar'
    """
    from launch.data import index_data

    index_data(shards, split, cache_gib=cache, cache_dir=cache_dir)


@data_app.command("check")
def data_check(
    shards: ShardsArgument,
    split: Annotated[str, typer.Option(help="Which split.")] = "train",
    workers: Annotated[int, typer.Option(help="Processes that decode.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print plain values.")] = False,
    cache: CacheGiB = None,
    cache_dir: CacheDir = None,
) -> None:
    """Decode every sample, compare checksums, and count what is wrong by reason; exit code 1 if anything is.

    Example: robustclip data check shards --split train --workers 8 --json
    """
    from launch.data import check_data

    code = check_data(shards, split, workers=workers, as_json=as_json, cache_gib=cache, cache_dir=cache_dir)
    if code:
        raise SystemExit(code)


@data_app.command("catalog")
def data_catalog(
    name: Annotated[str | None, typer.Argument(help="All that is known of one, such as fare/cifar10.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="fare, ttc, robustbench, …")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print plain values.")] = False,
) -> None:
    """List the benchmark data sets that are known, with expected counts and what they need.

    Example: robustclip data catalog --protocol fare
    """
    from launch.catalog import show_catalog

    show_catalog(name, protocol, as_json=as_json)
