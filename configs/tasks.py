"""What is wrong with a recipe's tasks beyond the types of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUESTIONS = ("choice", "retrieval", "neighbours", "filtering")

RCLIP_NIGHTS = "rclip-nights"
_WHOLE = {"split": "test", "limit": None}
_REFERENCE = {"ask": "nearer", "target": "reference"}
_APGD = {"name": "apgd", "loss": "margin", "steps": 100}


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
    return faults + (_preset_faults(tree) if tree.get("protocol") == RCLIP_NIGHTS else [])


def _preset_faults(tree: Mapping[str, Any]) -> list[str]:
    """What makes the numbers others than those of the preset, so that they must not bear its name."""
    remedy = "leave it as it is, or call it otherwise with protocol=NAME"
    faults = []
    for name, task in tree["tasks"].items():
        told = {**(task.get("choice") or {"ask": "classes"}), **{key: task[key] for key in _WHOLE}}
        different = [key for key, value in (_WHOLE | _REFERENCE).items() if told.get(key) != value]
        faults += [f"tasks.{name}: {key} is not that of {RCLIP_NIGHTS}; {remedy}" for key in different]
    said = [{"name": name, **(node or {})} for name, node in tree["attacks"].items()]
    if not any(one | _APGD == one for one in said):
        faults.append(
            f"attacks: none is APGD on the margin with 100 steps and one start, as {RCLIP_NIGHTS} has it; {remedy}"
        )
    threat = tree["threat"]["norm"], round(float(tree["threat"]["eps"]), 4)
    if threat not in (("linf", round(4 / 255, 4)), ("l2", 3.0)):
        faults.append(f"threat: {RCLIP_NIGHTS} is linf 4/255 or l2 3; {remedy}")
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
