"""The declared type of every setting: of dataclasses, and of the components that a config names."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from configs.files import ConfigError
from configs.schema import KINDS, EvaluateConfig
from configs.schema.ranges import Range
from configs.trackers import TRACKERS

ATTACK_ROUTING = {"views": list[str]}
"""Settings of an attack that are not its own."""


@dataclass(frozen=True)
class Setting:
    """What a setting is declared as.

    Attributes:
        hint: its type without annotations and without None; Any where it is free.
        optional: None is allowed.
        marks: the annotations, of a list those of its items.
        norm: of the ball that a length in pixels is measured in; empty where it has several.
    """

    hint: Any
    optional: bool = False
    marks: tuple[Any, ...] = ()
    norm: str = "linf"

    @property
    def is_text(self) -> bool:
        """Whether it is a text or one of some texts."""
        return self.hint is str or get_origin(self.hint) is Literal

    @property
    def is_texts(self) -> bool:
        """Whether it is a list of texts."""
        return get_origin(self.hint) is list and Setting(*_bare(get_args(self.hint)[0])[:2]).is_text

    @property
    def range(self) -> Range | None:
        """Its bounds, where it has some."""
        return next((mark for mark in self.marks if isinstance(mark, Range)), None)


FREE = Setting(Any, optional=True)


def setting_at(schema: type, path: tuple[str, ...], tree: Mapping[str, Any]) -> Setting:
    """The declaration of the setting at a path; ``FREE`` where there is none.

    Args:
        schema: dataclass of the config.
        path: of the setting.
        tree: plain values of the config, which name its components and norms.
    """
    return _descend(schema, path, tree, "linf")


def _descend(hint: Any, path: tuple[str, ...], node: Any, norm: str) -> Setting:
    hint, optional, marks = _bare(hint)
    if not path:
        return Setting(hint, optional, marks, norm)
    node = node if isinstance(node, Mapping) else {}
    if isinstance(hint, type) and is_dataclass(hint):
        declared = _hints(hint).get(path[0], Any)
        norm = _norm(hint, node, norm)
        if _is_table(declared):
            return _in_table(path[0], path[1:], node, norm, _bare(declared)[1])
        return _descend(declared, path[1:], node.get(path[0]), norm)
    if get_origin(hint) is dict:
        return _descend(get_args(hint)[1], path[1:], node.get(path[0]), norm)
    return FREE


def _in_table(name: str, path: tuple[str, ...], owner: Mapping[str, Any], norm: str, optional: bool) -> Setting:
    """A setting in one of the free tables of a config: a component's, a nested evaluation's, a tracker's."""
    node = owner.get(name)
    node = node if isinstance(node, Mapping) else {}
    if not path:
        return Setting(dict, optional)
    if name == "evaluation":
        return _in_evaluation(path, node)
    if name == "tracker_options":
        kind = TRACKERS.get(path[0], {}).get(path[1]) if len(path) == 2 else None
        return Setting(kind) if kind else FREE
    if name == "search":
        found = _of_component("defense", path, owner.get("defense") or {}, "", norm)
        return Setting(list[found.hint], marks=found.marks, norm=found.norm) if found is not FREE else FREE
    if name in ("attacks", "defenses"):
        inner = node.get(path[0])
        return _of_component(name, path[1:], inner if isinstance(inner, Mapping) else {}, path[0], norm)
    return _of_component(name, path, node, "", norm)


def _of_component(table: str, path: tuple[str, ...], node: Mapping[str, Any], name: str, norm: str) -> Setting:
    from configs.families import ATTACKS, DEFENSES, METHODS, OBJECTIVES

    families = {"attack": ATTACKS, "defense": DEFENSES, "objective": OBJECTIVES, "method": METHODS}
    family = families.get(table.removesuffix("s"))
    if family is None or len(path) != 1:
        return Setting(dict) if family is not None and not path else FREE
    if path[0] == "name":
        return Setting(str)
    if family is ATTACKS and path[0] in ATTACK_ROUTING:
        return Setting(ATTACK_ROUTING[path[0]])
    cls = family.members.get(str(node.get("name", name)))
    hint = _parameters(cls).get(path[0], Any) if cls else Any
    if family is DEFENSES:  # they move within a ball of their own
        norm = str(node.get("norm", "linf"))
    return FREE if hint is Any else _descend(hint, (), None, norm)


def _in_evaluation(path: tuple[str, ...], node: Mapping[str, Any]) -> Setting:
    """A setting of the evaluation inside a training's config, over those of the recipe that it names."""
    from configs.load import read_recipe

    if path == ("recipe",):
        return Setting(str)
    if path == ("elsewhere",):
        return Setting(bool)
    try:
        said = read_recipe("evaluate", str(node["recipe"])) if node.get("recipe") else {}
    except ConfigError:
        said = {}
    return setting_at(EvaluateConfig, path, overlaid(said, node))


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``below`` with those of ``above`` over them, tables within tables too."""
    found = dict(below)
    for key, value in above.items():
        inner = found.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        found[key] = overlaid(inner, value) if both else value  # pyright: ignore[reportArgumentType]
    return found


def _norm(cls: type, node: Mapping[str, Any], norm: str) -> str:
    """The norm that holds below a node; of a protocol that of its parts, if they agree."""
    if "norm" in _hints(cls):
        return str(node.get("norm", "linf"))
    if isinstance(node.get("threat"), Mapping):
        return str(node["threat"].get("norm", "linf"))
    if isinstance(node.get("parts"), Mapping):
        norms = {str(part.get("norm", "linf")) for part in node["parts"].values() if isinstance(part, Mapping)}
        return norms.pop() if len(norms) == 1 else ""
    return norm


def has_setting(kind: str, key: str) -> bool:
    """Whether a kind of config declares a setting at a dotted key."""
    node: Any = KINDS[kind]
    for part in key.split("."):
        node = _bare(node)[0]
        if not is_dataclass(node) or part not in _hints(node):  # pyright: ignore[reportArgumentType]
            return False
        node = _hints(node)[part]  # pyright: ignore[reportArgumentType]
    return True


def has_value(kind: str, key: str) -> bool:
    """Whether a kind of config declares something at a key that is not a section of settings."""
    return has_setting(kind, key) and not is_dataclass(_bare(_hints(KINDS[kind])[key])[0])


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


@cache
def _parameters(cls: type) -> dict[str, Any]:
    return get_type_hints(cls.__init__, include_extras=True)


def _is_table(declared: Any) -> bool:
    hint = _bare(declared)[0]
    return get_origin(hint) is dict and get_args(hint)[1] is Any


def _bare(hint: Any) -> tuple[Any, bool, tuple[Any, ...]]:
    """A type without annotations and None, whether None was in it, and the annotations, also of a list's items."""
    marks: list[Any] = []
    optional = False
    while True:
        if get_origin(hint) is Annotated:
            marks += get_args(hint)[1:]
            hint = get_args(hint)[0]
        elif get_origin(hint) in (Union, types.UnionType):
            kinds = [kind for kind in get_args(hint) if kind is not type(None)]
            optional = optional or len(kinds) < len(get_args(hint))
            if len(kinds) > 1:
                return Union[tuple(kinds)], optional, tuple(marks)  # noqa: UP007
            hint = kinds[0]
        elif get_origin(hint) is list and get_args(hint):
            inner = _bare(get_args(hint)[0])
            return list[inner[0]], optional, (*marks, *inner[2])
        else:
            return hint, optional, tuple(marks)
