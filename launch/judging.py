"""What ``robustclip evaluate`` was asked for: the list of protocols, one of them, or a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from configs.files import ConfigError


def run_judging(
    checkpoint: str,
    words: Sequence[str],
    out: Path | None,
    *,
    protocol: str | None,
    listing: bool,
    dry_run: bool,
    command: str,
    shard: str,
) -> None:
    """Judge by a recipe, which is the first of the words, or by a protocol.

    Raises:
        ConfigError: nothing to judge, no recipe, or both a recipe and a protocol; and all that those refuse.
    """
    if listing:
        from launch.protocols import list_protocols

        list_protocols()
        return
    if not checkpoint:
        raise ConfigError("name a checkpoint or a model, such as tiny, and a recipe or --protocol")
    recipe = words[0] if words and "=" not in words[0] else None
    if protocol is not None:
        if recipe is not None:
            raise ConfigError(f"--protocol {protocol} says what is judged; leave out the recipe {recipe!r}")
        from launch.protocols import run_protocol

        run_protocol(checkpoint, protocol, words, out, dry_run=dry_run, command=command, shard=shard)
        return
    if recipe is None:
        raise ConfigError("name a recipe, such as digits, or a protocol (robustclip evaluate --list-protocols)")
    from launch.evaluation import run_evaluation

    run_evaluation(checkpoint, recipe, words[1:], out, dry_run=dry_run, command=command, shard=shard)
