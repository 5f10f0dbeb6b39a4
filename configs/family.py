"""A config line becomes an object: what a class takes by keyword is what a recipe may say."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import field, make_dataclass
from functools import cache
from typing import Any, Generic, TypeVar, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.files import ConfigError

T = TypeVar("T")


@cache
def schema(cls: type) -> type:
    """Dataclass whose fields are the keyword-only parameters of ``cls``."""
    hints = get_type_hints(cls.__init__)
    fields = []
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        default = parameter.default
        if default is parameter.empty:
            declared = field(default="???")
        elif isinstance(default, (list, dict)):
            declared = field(default_factory=lambda value=default: value)
        else:
            declared = field(default=default)
        fields.append((parameter.name, hints.get(parameter.name, Any), declared))
    return make_dataclass(f"{cls.__name__}Config", fields)


_CLEARER = (
    (r"^Key '([^']*)' not in '\w+?'", r"unknown key '\1'"),
    (r"^Invalid value ('.*'), expected one of \[(.*)\]$", r"unknown value \1; choose one of: \2"),
    (r"^(field '[^']*' is not Optional|Incompatible value 'None' for field of type .*)$", "it cannot be null"),
)
"""What OmegaConf says, and how a user says it."""


def schema_fault(error: BaseException) -> str:
    """Return why a value does not fit a schema, in one line and without the names of our classes."""
    text = first_line(error)
    for theirs, ours in _CLEARER:
        text = re.sub(theirs, ours, text)
    return text


def first_line(error: BaseException) -> str:
    """The first line of an error's text: the rest of OmegaConf's repeats the key."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def leaves(node: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every value of a nested mapping with its path; empty mappings count as values."""
    if isinstance(node, Mapping) and node:
        return [leaf for key, value in node.items() for leaf in leaves(value, (*path, str(key)))]
    return [(path, node)]


def nested(path: tuple[str, ...], value: Any) -> Any:
    """The mapping that holds ``value`` at ``path`` and nothing else."""
    for key in reversed(path):
        value = {key: value}
    return value


def put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set the value at a path of a nested mapping, making the mappings on the way."""
    for key in path[:-1]:
        inner = tree.get(key)
        if not isinstance(inner, dict):
            inner = tree[key] = {}
        tree = inner
    tree[path[-1]] = value


class Family(Generic[T]):
    """The classes that a config may name at one place, e.g. every attack.

    Args:
        kind: what they are, for messages.
        members: names and classes.
    """

    def __init__(self, kind: str, members: Mapping[str, type[T]]) -> None:
        self.kind, self.members = kind, dict(members)

    def faults(self, node: Mapping[str, Any]) -> list[str]:
        """One line for each thing that is wrong with a component's config; none if it can be built."""
        node = dict(node)
        name = node.pop("name", None)
        if name not in self.members:
            choices = ", ".join(sorted(self.members))
            return [f"unknown {self.kind} {name!r}; choose one of: {choices}"]
        base = OmegaConf.structured(schema(self.members[name]))
        found = []
        for path, value in leaves(node) if node else []:
            try:
                OmegaConf.merge(base, nested(path, value))
            except OmegaConfBaseException as error:
                found.append(f"{self.kind} {name!r}: {schema_fault(error)}")
        found += [f"{self.kind} {name!r}: {key} is missing" for key in OmegaConf.missing_keys(base) if key not in node]
        return found

    def settings(self, node: Mapping[str, Any]) -> tuple[type[T], dict[str, Any]]:
        """The class a config names and its keyword arguments, defaults included.

        Raises:
            ConfigError: the config has faults; all of them, joined.
        """
        faults = self.faults(node)
        if faults:
            raise ConfigError("; ".join(faults))
        said = {key: value for key, value in node.items() if key != "name"}
        cls = self.members[node["name"]]
        merged = OmegaConf.merge(OmegaConf.structured(schema(cls)), said)
        values = OmegaConf.to_container(merged, resolve=True)
        assert isinstance(values, dict)
        return cls, {str(key): value for key, value in values.items()}

    def needs(self, node: Mapping[str, Any]) -> list[str]:
        """Names of what the program must hand in to build this component, in order."""
        parameters = inspect.signature(self.members[node["name"]]).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]

    def build(self, node: Mapping[str, Any], **offered: Any) -> T:
        """The object a config names.

        Args:
            node: ``{name: ..., setting: value, ...}``.
            offered: what the program can hand in; each class takes what its positional parameters name.

        Raises:
            ConfigError: faults in the config, something it needs is not there, or its values contradict one another.
        """
        cls, keywords = self.settings(node)
        lacking = [name for name in self.needs(node) if offered.get(name) is None]
        if lacking:
            raise ConfigError(f"{self.kind} {node['name']!r} needs {' and '.join(lacking)}, which is not given")
        try:
            return cls(*(offered[name] for name in self.needs(node)), **keywords)
        except ValueError as error:
            raise ConfigError(f"{self.kind} {node['name']!r}: {error}") from error
