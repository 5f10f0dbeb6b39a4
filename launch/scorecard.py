"""``robustclip scorecard``: from a model's name or a checkpoint to one page and ``scorecard.json``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from configs.files import ConfigError
from configs.load import load_config
from configs.overrides import in_full, keys_of, override
from launch.evaluation import told_by

TINY = "tiny"


def run_scorecard(
    model: str,
    overrides: Sequence[str],
    budget: str,
    out: Path | None,
    *,
    command: str,
    dry_run: bool = False,
) -> None:
    """Make a scorecard, or go on with one.

    Args:
        model: open_clip's name, ``hf-hub:…``, ``tiny``, or a checkpoint's file.
        overrides: ``a.b=c``.
        budget: name of a scorecard recipe, or its file.
        out: folder.
        command: for the record.
        dry_run: only say what would be done.

    Raises:
        ConfigError: every fault of the recipe and the overrides, one a line.
        ValueError: model, data or defence cannot be had.
    """
    overrides = in_full("scorecard", overrides)
    config = load_config("scorecard", budget, [*_defaults(model, overrides), *overrides, *told_by(model, overrides)])
    if dry_run:
        from launch.dry_run import show_plan

        show_plan("scorecard", Path(budget).stem, config)
        return
    from data.terminal import terminal
    from eval.card import read_card
    from eval.score_page import build_score_page
    from eval.score_table import score_table
    from eval.scorecard import judge_model
    from train.runs import open_run

    run = open_run(f"scorecard-{Path(budget).stem}", config, out, command=command)
    if not run.finished:
        begin = time.perf_counter()
        judge_model(config, run.folder, budget=Path(budget).stem, command=command)
        run.finish({"scorecard": time.perf_counter() - begin})
    card = read_card(run.folder)
    page = build_score_page(card, run.folder)
    terminal().print(score_table(card))
    print(f"scorecard: {page}")


def _defaults(model: str, overrides: Sequence[str]) -> list[str]:
    """What need not be said: a checkpoint knows its model, and the embedded model its data."""
    said = keys_of(overrides)
    name, told = model, []
    folder = Path(model).is_dir() and not (Path(model) / "open_clip_config.json").is_file()
    if Path(model).is_file() or folder:
        base = _base_of(Path(model))
        name = base.get("name", "")
        told = [override(f"model.{key}", value) for key, value in base.items() if f"model.{key}" not in said]
        if not name and "model.name" not in said:
            raise ConfigError(f"{model} does not say which model it belongs to; say model.name=… model.pretrained=…")
    if name == TINY and "data.shards" not in said:
        told.append("data.shards=digits")
    return told


def _base_of(checkpoint: Path) -> dict[str, str]:
    """Name and tag of the model that a checkpoint was trained from, where it says so."""
    from modules.weights_file import read_content

    return {} if checkpoint.is_dir() else dict(read_content(checkpoint)[1].get("base", {}))
