"""What a recipe's task names: a data set of the catalog, and lists of its images."""

from __future__ import annotations

from pathlib import Path

from configs.files import ConfigError
from configs.schema import TaskConfig
from data.benchmarks.ids import keys_of, read_ids
from data.benchmarks.opening import Benchmark, open_benchmark
from data.benchmarks.registry import entry
from data.source import ImageSource, SelectedImages, images_named
from modules.zero_shot.published import published


def open_task(name: str, config: TaskConfig, image_size: int, *, split: str | None = None) -> Benchmark:
    """The data set of the catalog that a task names.

    Args:
        name: of the task.
        config: with its ``dataset``.
        image_size: side that the model takes.
        split: another one than the task's, for tuning.

    Raises:
        ConfigError: no such data set, or it is not what the catalog expects; one line.
    """
    assert config.dataset is not None
    try:
        known = entry(config.dataset)
        return open_benchmark(
            known,
            config.shards,
            image_size=image_size,
            split=split or (None if config.split == TaskConfig.split else config.split),
            published=published,
            templates=config.templates,
            allow_mismatch=config.allow_count_mismatch,
        )
    except ValueError as error:
        raise ConfigError(f"tasks.{name}: {error}") from error


def listed(name: str, config: TaskConfig, source: ImageSource, benchmark: Benchmark | None = None) -> ImageSource:
    """The images of the task's list, in its order, where it names one; the first so many of them.

    Args:
        name: of the task.
        config: with ``ids`` and ``first``.
        source: all images.
        benchmark: that they are of, which may want a list of a certain length.

    Raises:
        ConfigError: the list cannot be read, is wanted and missing, or is of another length.
        ValueError: it names images that are not there.
    """
    wanted = benchmark.entry.ids if benchmark else None
    where = f"tasks.{name}.ids"
    if config.ids is None:
        if benchmark is not None and wanted:
            raise ConfigError(
                f"{where} is missing: {benchmark.entry.id} is judged on a list of {wanted:,}; name its file"
            )
        return source if config.first is None else SelectedImages(source, range(min(config.first, len(source))))
    try:
        ids = read_ids(Path(config.ids))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {config.ids} cannot be read ({error})") from error
    if benchmark is not None and wanted and len(ids) != wanted:
        told = f"a list of {len(ids):,} images where {benchmark.entry.id} has {wanted:,}"
        if not config.allow_count_mismatch:
            remedy = f"name the whole list, or say tasks.{name}.allow_count_mismatch=true, and every row will say so"
            raise ConfigError(f"{where}: {config.ids} is {told}; {remedy}")
        benchmark.qualifiers.append(told)
    return images_named(source, keys_of(ids, source.keys)[: config.first], f"{where}: {config.ids}")
