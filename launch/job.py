"""From a command to a run: the config is checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.files import ConfigError
from configs.load import load_config, read_recipe
from configs.overrides import in_full, keys_of
from launch.launchers.ranks import open_agreed_run, rank_of

NOT_SAID = "not-said"
"""Stands in a dry run for a place or a file that is told later."""


def run_job(
    kind: str,
    recipe: str,
    overrides: Sequence[str],
    out: Path | None,
    *,
    dry_run: bool,
    command: str,
) -> None:
    """Run a training recipe, or with ``dry_run`` show what it would do.

    Raises:
        ConfigError: every fault of the recipe and the overrides.
        ValueError: model, data or devices are not to be had.
    """
    name, overrides = Path(recipe).stem, in_full(kind, overrides)
    if dry_run:
        from launch.dry_run import show_plan

        show_plan(kind, name, load_config(kind, recipe, _told_later(kind, recipe, overrides)))
        return
    config = load_config(kind, recipe, overrides)
    from data.transforms import DecodeError

    try:
        done = _JOBS[kind](name, config, out, command)
    except DecodeError as error:
        remedy = "data.skip_bad=true skips such samples; " if getattr(config.data, "skip_bad", True) is False else ""
        raise ConfigError(f"{error}; {remedy}robustclip data check lists all of them") from error
    if rank_of() == 0:
        print(done)


def _told_later(kind: str, recipe: str, overrides: Sequence[str]) -> list[str]:
    """A dry run needs no data and no file to go on from: where none is said, a placeholder stands in."""
    recipes = read_recipe(kind, recipe)
    data = recipes.get("data") or {}
    later = [] if kind == "evaluate" or data.get("shards") not in (None, "???") else ["data.shards"]
    later += ["init"] if recipes.get("init") == "???" else []
    said = keys_of(overrides)
    return [*overrides, *(f"{key}={NOT_SAID}" for key in later if key not in said)]


def _finetune(name: str, config: Any, out: Path | None, command: str) -> str:
    from train.finetune import finetune

    run = open_agreed_run(name, config, out, command=command)
    export = finetune(run)
    if rank_of() == 0 and (run.folder / "results.jsonl").is_file():
        from launch.evaluation import show_results

        show_results(run.folder)
    return f"encoder: {export}"


def _pretrain(name: str, config: Any, out: Path | None, command: str) -> str:
    from train.pretrain import pretrain

    return f"model: {pretrain(open_agreed_run(name, config, out, command=command))}"


def _perceptual(name: str, config: Any, out: Path | None, command: str) -> str:
    from train.perceptual import perceptual

    run = open_agreed_run(name, config, out, command=command)
    export = perceptual(run)
    if rank_of() == 0 and (run.folder / "results.jsonl").is_file():
        from launch.evaluation import show_results

        show_results(run.folder)
    return f"{export.stem}: {export}"


def _prior(name: str, config: Any, out: Path | None, command: str) -> str:
    from train.prior import show_health, train_prior

    run = open_agreed_run(name, config, out, command=command)
    export = train_prior(run)
    show_health(run.folder)
    return f"prior: {export}"


def _embed(name: str, config: Any, out: Path | None, command: str) -> str:
    from train.embed import embed

    return f"embeddings: {embed(config, out or Path('embeddings') / name)}"


_JOBS = {
    "finetune": _finetune,
    "pretrain": _pretrain,
    "perceptual": _perceptual,
    "prior": _prior,
    "embed": _embed,
}


def make_data(source: str, out: Path, *, split: str, per_shard: int, skip_bad: bool) -> None:
    """Write shards and say what they hold."""
    from data.make import make_from_folder, make_from_sample

    if source == "digits":
        summary = make_from_sample(source, out, per_shard=per_shard)
    else:
        summary = make_from_folder(Path(source), out, split=split, per_shard=per_shard, skip_bad=skip_bad)
    print_mapping(summary)


def print_mapping(values: dict[str, Any]) -> None:
    """Print names and values as a small table."""
    from rich.table import Table

    from data.terminal import terminal

    table = Table(show_header=False, box=None)
    for name, value in values.items():
        shown = ", ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(str(name), shown)
    terminal().print(table)
