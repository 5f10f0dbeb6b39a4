"""``robustclip data index`` and ``robustclip data check``: shards are indexed, or looked through."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from configs.files import ConfigError

if TYPE_CHECKING:
    from data.shard_cache import ShardCache


def index_data(shards: str, split: str, *, cache_gib: float | None, cache_dir: str | None) -> None:
    """Make the indexes of shards, or make them again where they do not fit, and say what there is.

    Raises:
        ValueError: no such shards, or a damaged one.
    """
    from data.catalog import locate
    from data.shard_index import IndexedShards
    from launch.job import print_mapping

    _refuse_embedded(shards)
    cache = cache_of(cache_gib, cache_dir)
    found = locate(shards, split, cache)
    index = IndexedShards(found.urls, skip_bad=True, cache=cache, fresh=True)
    print_mapping(
        {
            "samples": len(index),
            "shards": len(index.shards),
            "bytes": sum(index.sizes()),
            "indexes": dict(index.made),
            "refused": dict(sorted(index.rejected.items())),
        }
    )


def check_data(
    shards: str, split: str, *, workers: int, as_json: bool, cache_gib: float | None, cache_dir: str | None
) -> int:
    """Decode every sample, print what is wrong by reason; the exit code: 1 where anything is.

    Raises:
        ValueError: no such shards.
    """
    from data.check import check_shards
    from launch.errors import spelt_out
    from launch.job import print_mapping

    _refuse_embedded(shards)
    found = check_shards(shards, split, workers=workers, cache=cache_of(cache_gib, cache_dir))
    if as_json:
        print(json.dumps(found.plain(), indent=1))
        return 0 if found.sound else 1
    told = found.plain()
    examples = told.pop("examples")
    print_mapping({name: value for name, value in told.items() if value not in ({}, None)})
    for reason, where in examples.items():
        print(spelt_out(f"{reason}: " + "; ".join(where)))
    return 0 if found.sound else 1


def _refuse_embedded(shards: str) -> None:
    if shards == "digits":
        remedy = "write some with: robustclip data make digits --out DIR"
        raise ConfigError(f"'digits' is embedded and has no shards; {remedy}")


def cache_of(gib: float | None, folder: str | None) -> ShardCache:
    """The cache of fetched shards that a command names."""
    from data.reading import Reading

    default = Reading()
    return Reading(cache=default.cache if gib is None else gib, cache_dir=folder).shard_cache()
