"""Where a trained head may stand behind an encoder, and where not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.tasks import QUESTIONS


def head_faults(kind: str, tree: Mapping[Any, Any]) -> list[str]:
    """One line per fault of a recipe that names a head.

    Args:
        kind: of the recipe.
        tree: its plain values.
    """
    model = tree.get("model")
    if not isinstance(model, Mapping) or model.get("head") is None:
        return []
    if kind == "evaluate":
        return blind_faults(tree["tasks"], "model.head")
    return [f"model.head: no part of {kind}; only robustclip evaluate judges an encoder behind a head, leave it out"]


def blind_faults(tasks: Mapping[str, Any], head: str) -> list[str]:
    """One line per task that reads classes off texts, which lie near no embedding behind a head.

    Args:
        tasks: plain values by name.
        head: what is called so.
    """
    return [
        f"tasks.{name} reads classes off texts, and the text tower does not know {head}; leave one of them out, "
        f"or ask another question: {', '.join(QUESTIONS)}"
        for name, task in tasks.items()
        if all(task.get(question) is None for question in QUESTIONS)
    ]
