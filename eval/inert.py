"""What a stranger named, without anything that a terminal or a browser would act on."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from eval.tables import plain

T = TypeVar("T")


def inert(value: T) -> T:
    """The same value with all texts inside it ``plain``: of dataclasses, lists, tuples and mappings, keys included."""
    return _inert(value)


def _inert(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: _inert(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, dict):
        return {_inert(name): _inert(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        held = [_inert(each) for each in value]
        return type(value)(*held) if hasattr(value, "_fields") else type(value)(held)  # a named tuple takes them apart
    return value
