"""The product of the values of all keys: one named run for each combination."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from configs.files import ConfigError
from launch.sweep.axes import Axis

MOST = 1000  # runs; more are a slip
_LONGEST = 120  # characters of a name; file systems allow 255 bytes


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: of the run and its folder, ``eps=2,objective=fare``.
        settings: label -> value as it was typed, of the swept keys.
        words: overrides of the recipe, in full.
    """

    name: str
    settings: dict[str, str]
    words: tuple[str, ...]


def expand(axes: Sequence[Axis]) -> list[Point]:
    """Every combination of the axes' values, the last key changing quickest; no two names are alike.

    Raises:
        ConfigError: no key has several values, or there are more runs than anybody means.
    """
    swept = [axis for axis in axes if axis.swept]
    if not swept:
        raise ConfigError("nothing is swept; give a key several values, such as seed=0,1")
    count = prod(len(axis.values) for axis in swept)
    if count > MOST:
        raise ConfigError(f"{count:,} runs are more than {MOST:,}; sweep fewer values at once")
    short = {axis.key: _shortened(axis.values) for axis in swept}
    points = []
    for chosen in itertools.product(*(range(len(axis.values)) for axis in axes)):
        at = dict(zip((axis.key for axis in axes), chosen, strict=True))
        settings = {axis.label: axis.values[at[axis.key]] for axis in swept}
        name = ",".join(f"{axis.label}={short[axis.key][at[axis.key]]}" for axis in swept)
        words = tuple(f"{axis.key}={axis.values[at[axis.key]]}" for axis in axes)
        points.append(Point(_cut(name), settings, words))
    return points


def _shortened(values: Sequence[str]) -> list[str]:
    """Values as parts of a folder's name; where two become alike, numbers tell all of them apart."""
    short = [_plain(value) for value in values]
    return short if len(set(short)) == len(short) else [f"{text}-{i + 1}" for i, text in enumerate(short)]


def _plain(value: str) -> str:
    """``fare``, ``4``, ``runs_a_encoder``: no character that means anything to a shell or a file system."""
    text = re.sub(r"\.(safetensors|ckpt|pth|pt|yaml)$", "", value)
    text = re.sub(r"[^\w.+-]+", "_", text).strip("_.")
    return text or "none"


def _cut(name: str) -> str:
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: _LONGEST - 9].decode(errors="ignore") + "-" + digest
