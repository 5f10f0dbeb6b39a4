"""What is wrong with a recipe's tasks beyond the types of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUESTIONS = ("choice", "retrieval", "neighbours", "filtering")


def task_faults(tree: Mapping[str, Any]) -> list[str]:
    """One line per fault.

    Args:
        tree: a resolved evaluation, as plain values.
    """
    faults = []
    for name, task in (tree.get("tasks") or {}).items():
        where = f"tasks.{name}"
        asked = [question for question in QUESTIONS if task.get(question) is not None]
        if len(asked) > 1:
            faults.append(f"{where} asks {len(asked)} questions ({', '.join(asked)}); make each a task of its own")
        if asked and task.get("dataset") is not None:
            faults.append(f"{where}.dataset names a set of the catalog, which is for classification; leave it out")
        faults += [f"{where}.{fault}" for question in asked for fault in _OF[question](task[question])]
    return faults


def _retrieval(node: Mapping[str, Any]) -> list[str]:
    faults = [f"retrieval.k: {k} is below 1" for k in node["k"] if k < 1]
    faults += [
        f"retrieval.{key} is {node[key]}; it must be at least 1" for key in ("poisoned", "first") if node[key] < 1
    ]
    if node["relevance"] == "revisited" and node["gallery"] is not None:
        faults.append("retrieval.gallery: the revisited sets bring their gallery along; leave it out")
    return faults


def _neighbours(node: Mapping[str, Any]) -> list[str]:
    faults = [f"neighbours.k is {node['k']}; it must be at least 1"] if node["k"] < 1 else []
    if not node["temperature"] > 0:
        faults.append(f"neighbours.temperature is {node['temperature']}; it must be above 0")
    if node["false_positive_rate"] is not None:
        faults += _rate("neighbours", node["false_positive_rate"])
        if node["positive"] is None:
            faults.append("neighbours.false_positive_rate: of which class? say neighbours.positive=CLASS")
    return faults


def _filtering(node: Mapping[str, Any]) -> list[str]:
    return _rate("filtering", node["false_positive_rate"])


def _rate(question: str, rate: float) -> list[str]:
    if 0 < rate < 1:
        return []
    return [f"{question}.false_positive_rate is {rate}; it is a share of pictures between 0 and 1, such as 0.01"]


_OF = {"choice": lambda node: [], "retrieval": _retrieval, "neighbours": _neighbours, "filtering": _filtering}
