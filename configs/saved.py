"""How a config differs from the one that a run was started with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from configs.family import leaves
from configs.load import plain, read_saved

_SHOWN = 4


def describe_changes(file: Path, config: Any, *, but: Sequence[str] = ()) -> str:
    """Return which keys have other values than in a saved config: ``optimizer.max_steps: 3 before, 5 now``.

    Args:
        file: a saved config.
        config: checked.
        but: keys that may differ.

    Returns:
        The first few changes, and how many there are beyond; empty where none can be told.
    """
    try:
        saved = read_saved(file, type(config))
    except (OmegaConfBaseException, ValueError):
        return ""
    before, now = ({".".join(path): value for path, value in leaves(tree)} for tree in (saved, plain(config)))
    changed = [key for key in {**before, **now} if key not in but and before.get(key) != now.get(key)]
    told = [f"{key}: {_value(before, key)} before, {_value(now, key)} now" for key in changed[:_SHOWN]]
    return "; ".join(told) + (f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else "")


def _value(values: dict[str, Any], key: str) -> str:
    return repr(values[key])[:60] if key in values else "not set"
