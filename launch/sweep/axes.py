"""``seed=0,1`` on the command line: a key and the values that it takes in turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from configs.files import ConfigError
from configs.overrides import full_key, split_values


@dataclass(frozen=True)
class Axis:
    """A key that was told on the command line.

    Attributes:
        key: in full.
        label: how runs are named by it.
        values: as they were typed.
    """

    key: str
    label: str
    values: tuple[str, ...]

    @property
    def swept(self) -> bool:
        """Whether it takes several values."""
        return len(self.values) > 1


def read_axes(words: Sequence[str], kind: str) -> list[Axis]:
    """The keys of some words, in their order, each with its values.

    Args:
        words: key=value and key=value,value.
        kind: of the config that they change.

    Raises:
        ConfigError: every word that is no key=value, value that is empty or there twice, and key that is told twice.
    """
    faults, read = [], []
    for word in words:
        try:
            read.append(_axis(word, kind))
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
    return [Axis(key, labels[key], values) for key, _, values in read]


def _axis(word: str, kind: str) -> tuple[str, str, tuple[str, ...]]:
    """Key in full, key as typed, values as typed."""
    key, equals, text = word.partition("=")
    if not equals or not re.fullmatch(r"\w[\w-]*(\.[\w-]+)*", key):
        raise ConfigError(f"{word!r} is no key=value, nor key=value,value")
    shown = [value.strip() for value in split_values(text)]
    if len(shown) > 1 and "" in shown:
        raise ConfigError(f"{word} has an empty value between its commas; leave it out, or say null")
    twice = sorted({value for value in shown if shown.count(value) > 1}, key=shown.index)
    if twice:
        raise ConfigError(f"{word} has a value twice: {twice[0]}")
    return full_key(kind, key, shown[0]), key, tuple(shown)


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
