"""The evaluation inside a training recipe: a named evaluation recipe, and what differs from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.family import leaves
from configs.files import ConfigError
from configs.load import check_config, put, read_recipe
from configs.schema import EvaluateConfig


def evaluation_config(node: Mapping[str, Any], *, model: Mapping[str, Any]) -> EvaluateConfig:
    """The checked evaluation of a training recipe.

    Args:
        node: ``{recipe: NAME, setting: value, ...}``.
        model: the model that is trained; the evaluation recipe's own is not used.

    Raises:
        ConfigError: no recipe is named, or every fault of what results.
    """
    if not node.get("recipe"):
        raise ConfigError("recipe is missing; name an evaluation recipe, such as recipe: checkpoint")
    said = read_recipe("evaluate", node["recipe"])
    for path, value in leaves({key: value for key, value in node.items() if key != "recipe"}):
        if path:
            put(said, path, value)
    said["model"] = dict(model)
    return check_config("evaluate", said)
