"""What encoders were seen to take for some names, as rows of pictures for a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.looks import Look, read_looks
from eval.pages.inversion import how_told
from eval.pages.picture import data_uri
from eval.tables import plain
from modules.perceptual.inversion import Inverting

FIRST_AND_LAST = 3  # checkpoints of a training that are shown, of either end


def looks_section(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """For each kind of search, how it was done, and for each name a row of pictures of each encoder.

    Args:
        folders: of runs.

    Raises:
        ConfigError: a file is damaged.
    """
    groups: dict[str, list[Look]] = {}
    for folder in folders:
        for one in _ends(read_looks(folder)):
            groups.setdefault(repr((one.settings, one.steps)), []).append(one)
    return [{"told": _told(mine[0]), "blocks": _blocks(mine)} for mine in groups.values()]


def _ends(looks: list[Look]) -> list[Look]:
    """Those of the first and of the last checkpoints."""
    steps = sorted({one.step for one in looks})
    kept = {*steps[:FIRST_AND_LAST], *steps[-FIRST_AND_LAST:]}
    return [one for one in looks if one.step in kept]


def _told(one: Look) -> str:
    settings = dict(one.settings)
    start, seed = str(settings.pop("start")), int(settings.pop("seed"))
    return how_told(Inverting(**settings), start, seed)


def _blocks(looks: Sequence[Look]) -> list[dict[str, Any]]:
    texts = list(dict.fromkeys(text for one in looks for text in one.texts))
    return [
        {
            "name": plain(text),
            "kind": "text",
            "heads": [f"{steps} steps" for steps in looks[0].steps],
            "rows": [_row(one, one.texts.index(text)) for one in looks if text in one.texts],
        }
        for text in texts
    ]


def _row(one: Look, number: int) -> dict[str, Any]:
    behind = "" if one.defense == "none" else f" + {one.defense}"
    at = f", step {one.step:,}" if one.step else ""
    return {
        "encoder": plain(f"{one.encoder}{behind}{at}"),
        "pictures": [data_uri(x.numpy()) for x in one.pictures[:, number]],
        "cosine": one.cosine[number],
        "distance": one.distance[number],
    }
