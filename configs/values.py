"""Values of a config as they are declared: units, ranges, texts that YAML changed, home folders."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

from configs.family import leaves, put
from configs.fields import Setting, setting_at
from configs.files import ConfigError
from configs.schema.ranges import FILE
from data.home import text_at_home
from modules.units import PIXELS

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LEVELS = re.compile(rf"\s*({_NUMBER})\s*/\s*255\s*")
NESTED = ("evaluation",)
"""Path of a config inside a config, which is checked as one of its own."""


def pixels_of(value: Any, norm: str, *, typed: bool = False) -> Any:
    """A length in [0, 1] pixels, from what a person gives; what is no number stays as it is.

    ``4/255`` is 4/255 under every norm. Under linf a whole number and any number above 1 counts in 1/255, and other
    numbers are in [0, 1] pixels, as saved configs have them. Lengths under l1 and l2 are in [0, 1] pixels.

    Args:
        value: number or text.
        norm: of the ball; empty where the same setting is used under several.
        typed: it was typed as an override, where 0.1 to 1 could mean either unit and is refused.

    Raises:
        ConfigError: it could mean two things.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        if levels := _LEVELS.fullmatch(value):
            return float(levels[1]) / 255
        if not re.fullmatch(rf"\s*{_NUMBER}\s*", value):
            return value
        value = int(value) if re.fullmatch(r"\s*[+-]?\d+\s*", value) else float(value)
    if not isinstance(value, int | float) or norm in ("l1", "l2") or not math.isfinite(value) or value <= 0:
        return value
    whole = isinstance(value, int) or value > 1
    if not norm and whole:
        raise ConfigError(f"{value:g} counts in 1/255 under linf only, and several norms use it; give {value:g}/255")
    if typed and not whole and value >= 0.1:
        raise ConfigError(
            f"{value:g} could mean {value:g}/255 or {255 * value:g}/255; give one of these (linf counts in 1/255)"
        )
    if whole and value > 255:
        raise ConfigError(f"{value:g} is more than the pixels have; a length under linf counts in 1/255, such as 4")
    return value / 255 if whole else value


def read_values(schema: type, tree: Mapping[str, Any], *, typed: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a config with units and home folders resolved, and a line for each that is not what was written.

    Args:
        schema: dataclass of the config.
        tree: plain values.
        typed: see ``pixels_of``.
    """
    found: dict[str, Any] = copy.deepcopy(dict(tree))
    faults: dict[str, str] = {}
    for path, value in leaves(tree):
        if path[:1] == NESTED:
            continue
        setting, key = setting_at(schema, path, tree), ".".join(path)
        try:
            read = read_value(setting, value, typed=typed)
        except ValueError as error:
            faults[key] = f"{key}: {error}"
            continue
        if path and read is not value:
            put(found, path, read)
    return found, faults


def read_value(setting: Setting, value: Any, *, typed: bool = False) -> Any:
    """One value as it is declared.

    Raises:
        ValueError: it could mean two things, or YAML has changed a text.
    """
    if isinstance(value, str) and "${" in value:
        return value
    if isinstance(value, list):
        if setting.is_texts or PIXELS in setting.marks:
            item = Setting(str if setting.is_texts else float, False, setting.marks, setting.norm)
            return [read_value(item, one, typed=typed) for one in value]
        return value
    if PIXELS in setting.marks:
        return pixels_of(value, setting.norm, typed=typed)
    if setting.is_text and isinstance(value, bool | int | float):
        raise ConfigError(f"YAML reads {value!r} here and not a text; put what is meant in quotes")
    if FILE in setting.marks and isinstance(value, str) and setting.is_text:
        return text_at_home(value)
    return value


def range_faults(schema: type, tree: Mapping[str, Any]) -> dict[str, str]:
    """One line by key for each number of a config that is out of its declared range.

    Args:
        schema: dataclass of the config.
        tree: its plain values, defaults included.
    """
    faults = {}
    for path, value in leaves(tree):
        if not isinstance(value, int | float) or isinstance(value, bool) or path[:1] == NESTED:
            continue
        setting, key = setting_at(schema, path, tree), ".".join(path)
        if setting.range is not None and (fault := setting.range.fault(value)):
            faults[key] = f"{key} is {value}; {fault}" + (", or null" if setting.optional else "")
    return faults
