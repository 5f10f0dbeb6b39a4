"""``seed=0,1`` on the command line: a key and the values that it takes in turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from configs.files import ConfigError
from launch.shorts import in_full

_OPENING, _CLOSING = "[{(", "]})"


@dataclass(frozen=True)
class Axis:
    """A key that was told on the command line.

    Attributes:
        key: in full.
        label: how runs are named by it.
        shown: its values as they were typed.
        values: as a recipe has them.
    """

    key: str
    label: str
    shown: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def swept(self) -> bool:
        """Whether it takes several values."""
        return len(self.values) > 1

    @property
    def numbers(self) -> list[float] | None:
        """Its values as numbers in the unit in which they were typed; None where one is none."""
        try:
            return [float(text.removesuffix("/255")) for text in self.shown]
        except ValueError:
            return None


def split_values(text: str) -> list[str]:
    """The values between bare commas; inside brackets, braces and quotes a comma belongs to the value.

    ``0,1`` are two, ``[0,1]`` is one list, ``[0],[0,1]`` are two lists, ``'a,b'`` is one text.

    Raises:
        ConfigError: brackets or quotes that do not close.
    """
    values, open_, quote, start = [], [], "", 0
    for at, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"" and (at == start or open_):  # elsewhere an apostrophe is only that
            quote = c
        elif c in _OPENING:
            open_.append(c)
        elif c in _CLOSING and open_:
            if _OPENING.index(open_.pop()) != _CLOSING.index(c):
                raise ConfigError(f"the brackets of {text!r} do not close as they open")
        elif c == "," and not open_:
            values.append(text[start:at])
            start = at + 1
    if quote or open_:
        raise ConfigError(f"{quote or open_[-1]} in {text!r} does not close")
    return [*values, text[start:]]


def read_axes(words: Sequence[str]) -> list[Axis]:
    """The keys of some words, in their order, each with its values.

    Raises:
        ConfigError: every word that is no key=value, value that is empty or there twice, and key that is told twice.
    """
    faults, read = [], []
    for word in words:
        try:
            read.append(_axis(word))
        except ConfigError as error:
            faults.append(str(error))
    typed: dict[str, str] = {}
    for key, label, *_ in read:
        if key in typed:
            twice = label if label == typed[key] else f"{typed[key]} and {label} are the same key,"
            faults.append(f"{twice} told twice; give all of its values at once, as in {label}=1,2")
        typed.setdefault(key, label)
    if faults:
        raise ConfigError("\n".join(faults))
    labels = _labels([key for key, *_ in read], {key: label for key, label, *_ in read})
    return [Axis(key, labels[key], shown, values) for key, _, shown, values in read]


def _axis(word: str) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    """Key in full, key as typed, values as typed, values in full."""
    key, equals, text = word.partition("=")
    if not equals or not re.fullmatch(r"\w[\w-]*(\.[\w-]+)*", key):
        raise ConfigError(f"{word!r} is no key=value, nor key=value,value")
    shown = [value.strip() for value in split_values(text)]
    if len(shown) > 1 and "" in shown:
        raise ConfigError(f"{word} has an empty value between its commas; leave it out, or say null")
    told = [in_full(key, value) for value in shown]
    values = [value for _, value in told]
    twice = sorted({value for value in values if values.count(value) > 1}, key=values.index)
    if twice:
        raise ConfigError(f"{word} has a value twice: {shown[values.index(twice[0])]}")
    return told[0][0], key, tuple(shown), tuple(values)


def _labels(keys: Sequence[str], typed: dict[str, str]) -> dict[str, str]:
    """A short label for each key that no other has: ``objective.name`` is ``objective``, ``optimizer.lr`` is ``lr``."""
    labels: dict[str, str] = {}
    for key in keys:
        parts = typed[key].split(".")
        parts = parts[:-1] if len(parts) > 1 and parts[-1] == "name" else parts
        for count in range(1, len(parts) + 1):
            labels[key] = ".".join(parts[-count:])
            others = [other for other in keys if other != key]
            if not any(_ends_alike(typed[other], parts[-count:]) for other in others):
                break
        else:
            labels[key] = typed[key]
    return labels


def _ends_alike(key: str, parts: Sequence[str]) -> bool:
    own = key.split(".")
    return own[-len(parts) :] == list(parts) or own[:-1][-len(parts) :] == list(parts) and own[-1] == "name"
