"""What can be known of the training's data before hours are spent on the base."""

from __future__ import annotations

from configs.schema import FinetuneConfig
from data.catalog import locate
from train.datamodules import reading_of


def data_faults(config: FinetuneConfig) -> list[str]:
    """One line per fault of where the training's images are said to be; no image is read.

    The images to judge by are the first that are opened anyway.
    """
    if config.data.shards == "digits":
        return []
    try:
        found = locate(config.data.shards, config.data.split, reading_of(config.data).shard_cache())
    except ValueError as error:
        return [f"data: {line}" for line in str(error).splitlines()]
    if config.objective["name"] == "tecoa" and not found.classes:
        return [f"data: no classnames.txt beside {found.urls[0]}, and tecoa trains on labels; say objective.name=fare"]
    return []
