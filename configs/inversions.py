"""What is wrong with a recipe's wish to look into its encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def inversion_faults(tree: Mapping[str, Any]) -> list[str]:
    """One line per fault of ``inversion``.

    Args:
        tree: plain values of an evaluation's recipe.
    """
    from modules.perceptual.inversion import Inverting

    node = tree["inversion"]
    if node is None:
        return []
    faults = [] if node["texts"] else ["inversion.texts is empty; say what to find images of, or inversion=null"]
    faults += [f"inversion.texts: {text!r} is empty" for text in node["texts"] if not str(text).strip()]
    faults += [
        f"inversion.templates: {template!r} must hold one {{}} for the name"
        for template in node["templates"]
        if str(template).count("{}") != 1
    ]
    if not node["templates"]:
        faults.append("inversion.templates is empty; it needs at least one")
    faults += [
        f"inversion.defenses: {name!r} is none of the defenses: {', '.join(tree['defenses'])}"
        for name in node["defenses"]
        if name != "none" and name not in tree["defenses"]
    ]
    try:
        Inverting(**{key: node[key] for key in Inverting.__dataclass_fields__ if node[key] is not None})
    except ValueError as error:
        faults.append(f"inversion: {error}")
    return faults
