"""Short names of keys that field people say a hundred times, told in full."""

from __future__ import annotations

import re

from configs.files import ConfigError

SHORTS = {
    "eps": "threat.eps",
    "norm": "threat.norm",
    "lr": "optimizer.lr",
    "steps": "optimizer.max_steps",
    "batch": "data.batch_size",
    "data": "data.shards",
    "model": "model.name",
    "pretrained": "model.pretrained",
}
"""What a short name stands for; ``eps`` counts in 1/255, as ``${px:4}`` does, and 4/255 may be written so."""

_LEAST = 0.1  # below, somebody means [0, 1] pixels


def in_full(key: str, value: str) -> tuple[str, str]:
    """Key and value as a recipe has them: ``eps``, ``4`` are ``threat.eps``, ``${px:4}``.

    Args:
        key: short or not.
        value: as it was typed.

    Raises:
        ConfigError: an ``eps`` that is no number of 1/255.
    """
    if key != "eps":
        return (key if value.lstrip().startswith("{") else SHORTS.get(key, key)), value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/255)?", value.strip())
    if found is None:
        raise ConfigError(f"eps={value}: eps is a number of 1/255, such as eps=4")
    if 0 < float(found[1]) < _LEAST:
        raise ConfigError(f"eps={value} would be {value}/255; for [0, 1] pixels say threat.eps={value}")
    return SHORTS[key], f"${{px:{found[1]}}}"


def told_in_full(word: str) -> str:
    """An override whose key may be short, as a recipe has it.

    Raises:
        ConfigError: as ``in_full``.
    """
    key, equals, value = word.partition("=")
    if not equals:
        return word
    key, value = in_full(key, value)
    return f"{key}={value}"
