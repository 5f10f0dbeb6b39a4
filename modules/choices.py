"""Validation of arguments that take one of a few texts."""

from __future__ import annotations

from typing import Any, get_args


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Refuse a value that is none of a ``Literal``'s.

    Call it before anything else: recipes are validated against the annotations, but Python checks none of them.

    Args:
        name: of the argument.
        value: given for it.
        choices: the ``Literal``.

    Raises:
        ValueError: the value is unknown.
    """
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}; choose one of: {', '.join(map(str, known))}")
