"""A scorecard's recipe is an evaluation of one defence beside the bare encoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from configs.names import safe_name

SAME = (
    "model",
    "threat",
    "attacks",
    "views",
    "eot_draws",
    "score_draws",
    "cascade",
    "rechecks",
    "stop_width",
    "prior",
    "allow_mismatch",
    "blank_prompt",
    "encoder",
    "batch_size",
    "examples",
    "device",
    "seed",
)
BARE = "none"


def defense_name(tree: Mapping[str, Any]) -> str:
    """Under which name the defence stands in the results."""
    return str((tree["defense"] or {}).get("name", BARE))


def dataset_name(tree: Mapping[str, Any]) -> str:
    """Under which name the images stand in the results: the catalog's, or the last part of where they lie.

    What follows a question mark in an address is often a signature, and stays out of it.
    """
    if tree["data"].get("dataset"):
        return safe_name(str(tree["data"]["dataset"]).rsplit("/", 1)[-1])
    shards = str(tree["data"]["shards"])
    place = shards.partition("?")[0] if "://" in shards else shards
    return safe_name(place.rstrip("/").rsplit("/", 1)[-1], "images")


def evaluation_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of the evaluation that a scorecard's plain values describe.

    The bare encoder stands beside the defence.
    """
    name = defense_name(tree)
    defenses = {} if name == BARE else {BARE: {}}
    defenses[name] = dict(tree["defense"] or {})
    return {
        **{key: copy.deepcopy(tree[key]) for key in SAME},
        "tasks": {dataset_name(tree): copy.deepcopy(tree["data"])},
        "defenses": defenses,
        "curve": {"eps": [], "attack": "", "defenses": []},
    }
