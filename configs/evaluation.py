"""The evaluation inside a training recipe: a named evaluation recipe, and what differs from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.family import leaves, put
from configs.files import ConfigError
from configs.load import check_config, read_recipe
from configs.schema import EvaluateConfig

_NO_SETTINGS = ("recipe", "elsewhere")


def judged_while_training(node: Mapping[str, Any] | None) -> bool:
    """Whether a training recipe's evaluation is made by the training, not by ``robustclip watch`` beside it."""
    return node is not None and not node.get("elsewhere", False)


def evaluation_config(node: Mapping[str, Any], *, model: Mapping[str, Any]) -> EvaluateConfig:
    """The checked evaluation of a training recipe.

    Args:
        node: ``{recipe: NAME, setting: value, ...}``; ``elsewhere`` says who makes it, and is no setting.
        model: the model that is trained; the evaluation recipe's own is not used.

    Raises:
        ConfigError: no recipe is named, or every fault of what results.
    """
    if not node.get("recipe"):
        raise ConfigError("recipe is missing; name an evaluation recipe, such as recipe: checkpoint")
    said = read_recipe("evaluate", node["recipe"])
    if not isinstance(node.get("elsewhere", False), bool):
        raise ConfigError(f"elsewhere: {node['elsewhere']!r} is neither true nor false")
    for path, value in leaves({key: value for key, value in node.items() if key not in _NO_SETTINGS}):
        if path:
            put(said, path, value)
    said["model"] = dict(model)
    return check_config("evaluate", said)
