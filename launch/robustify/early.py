"""What can be known of the training's data before hours are spent on the base."""

from __future__ import annotations

from configs.schema import FinetuneConfig
from data.catalog import locate
from data.folder_images import holds_images, list_folder
from data.home import at_home
from train.datamodules import reading_of


def data_faults(config: FinetuneConfig) -> list[str]:
    """One line per fault of where the training's images are said to be; no image is read.

    The images to judge by are the first that are opened anyway.
    """
    if config.data.shards == "digits":
        return []
    try:
        shards, split = config.data.shards, config.data.split
        if holds_images(shards, split):
            classes, lacking = list_folder(at_home(shards), split).classes, f"no class folders in {shards}"
        else:
            found = locate(shards, split, reading_of(config.data).shard_cache())
            classes, lacking = found.classes, f"no classnames.txt beside {found.urls[0]}"
    except ValueError as error:
        return [f"data: {line}" for line in str(error).splitlines()]
    if config.objective["name"] == "tecoa" and not classes:
        return [f"data: {lacking}, and tecoa trains on labels; say objective.name=fare"]
    return []
