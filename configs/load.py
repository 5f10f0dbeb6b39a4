"""A recipe's name and overrides into a checked config; all faults are told together."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.family import leaves, nested, put, schema_fault
from configs.files import ConfigError
from configs.overrides import parse_overrides
from configs.schema import KINDS
from configs.values import range_faults, read_values
from configs.yaml_file import dump_yaml, read_yaml
from data.home import at_home

_NAMED = ("tasks", "defenses", "attacks")  # parts by name, of which an override may leave one out
RECIPES = Path(__file__).with_name("recipes")
_INTERPOLATION = re.compile(r"\$\{\s*([^}:]*)(:?)")
C = TypeVar("C")


def pixels(value: Any) -> float:
    """``${px:4}`` in a recipe: 4/255."""
    return float(value) / 255


def recipe_names(kind: str) -> list[str]:
    """Names of the shipped recipes of a kind."""
    return sorted(file.stem for file in (RECIPES / kind).glob("*.yaml"))


def recipe_path(kind: str, name: str) -> Path:
    """The file of a recipe: a shipped name, or a path that ends in .yaml.

    Raises:
        ConfigError: there is none (names all, those that are near first).
    """
    if name.endswith((".yaml", ".yml")):
        path = at_home(name)
    else:
        path = RECIPES / kind / f"{name}.yaml"
        if Path(name).name != name or not path.is_file():
            known = recipe_names(kind)
            near = get_close_matches(name, known, n=3, cutoff=0.4)
            choices = ", ".join([*near, *(other for other in known if other not in near)])
            raise ConfigError(f"unknown {kind} recipe {name!r}; choose one of: {choices}, or a .yaml file")
    if not path.is_file():
        raise ConfigError(f"no recipe at {path}")
    return path


def read_recipe(kind: str, name: str) -> dict[str, Any]:
    """The plain values of a recipe file.

    Raises:
        ConfigError: no such recipe, not YAML, or not a mapping.
    """
    path = recipe_path(kind, name)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, not settings by name")
    if odd := _odd_key(content):
        raise ConfigError(f"{path}: YAML reads the name {odd!r} and not a text; put what is meant in quotes")
    return cast(dict[str, Any], content)


def _odd_key(node: Any) -> Any:
    """A key that is no text, at whatever depth; None where all are."""
    if isinstance(node, list):
        return next((odd for inner in node if (odd := _odd_key(inner)) is not None), None)
    if not isinstance(node, dict):
        return None
    here = next((key for key in node if not isinstance(key, str)), None)
    return here if here is not None else _odd_key(list(node.values()))


def load_config(kind: str, name: str, overrides: Sequence[str] = ()) -> Any:
    """The checked config of a recipe: an object of the kind's dataclass.

    Args:
        kind: ``finetune``, ``prior``, ``embed``, ``evaluate`` or ``pretrain``.
        name: of the recipe, or its file.
        overrides: ``a.b=c``.

    Raises:
        ConfigError: every fault of the recipe and the overrides, one a line.
    """
    said = read_recipe(kind, name)
    for path, value in parse_overrides(kind, said, overrides):
        if value is None and len(path) == 2 and path[0] in _NAMED:
            (said.get(path[0]) or {}).pop(path[1], None)
        else:
            put(said, path, value)
    return check_config(kind, said)


def check_config(kind: str, said: Mapping[str, Any]) -> Any:
    """An object of the kind's dataclass from plain values.

    Raises:
        ConfigError: every fault, one a line.
    """
    from configs.faults import component_faults

    base = OmegaConf.structured(KINDS[kind])
    OmegaConf.register_resolver("px", pixels, replace=True)
    said, changed = read_values(KINDS[kind], said)
    said, faults = _sound_part(base, said, set(changed))
    faults = changed | faults
    config = OmegaConf.merge(base, said)
    # a recipe's ??? does not take the place of a default when configs are merged, but it asks to be told all the same
    asked = {".".join(path) for path, value in leaves(said) if value == "???"}
    missing = {key for key in OmegaConf.missing_keys(config) | asked if key not in faults}
    found = [*faults.values(), *(f"{key} is missing; say {key}=…" for key in sorted(missing))]
    resolved = _resolved(config)
    found += component_faults(kind, resolved, set(OmegaConf.missing_keys(config)))
    found += range_faults(KINDS[kind], cast(dict[str, Any], OmegaConf.to_container(resolved))).values()
    if found:
        raise ConfigError("\n".join(found))
    return OmegaConf.to_object(OmegaConf.create(config))


def _sound_part(base: Any, said: Mapping[str, Any], without: set[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that fit the schema, ``without`` some keys, and a line for each that does not."""
    sound: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for path, value in leaves(said):
        key = ".".join(path)
        if key in without:
            continue
        fault = _forbidden_interpolation(key, value) or _type_fault(base, said, path, value)
        if fault:
            faults[key] = fault
        elif path:
            put(sound, path, value)
    return sound, faults


def _resolved(config: Any) -> DictConfig:
    """The config with interpolations computed and missing values left missing."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    return cast(DictConfig, OmegaConf.create(cast(dict[str, Any], plain)))


def _forbidden_interpolation(key: str, value: Any) -> str:
    for text in _texts(value):
        for resolver, colon in _INTERPOLATION.findall(text):
            if (colon and resolver.strip() != "px") or "$" in resolver:
                return f"{key} uses ${{{resolver}:…}}; recipes know only ${{px:…}} and ${{other.key}}"
    return ""


def _texts(value: Any) -> list[str]:
    """The texts in a value, at whatever depth."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def _type_fault(base: Any, said: Mapping[str, Any], path: tuple[str, ...], value: Any) -> str:
    key = ".".join(path)
    try:
        merged = OmegaConf.merge(base, nested(path, value))
        if isinstance(value, str) and "${" in value:
            whole = merged if ":" in value else OmegaConf.merge(base, said)
            OmegaConf.select(whole, key, throw_on_resolution_failure=True)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        return f"{key}: {schema_fault(error)}"
    return ""


def plain(config: Any) -> dict[str, Any]:
    """A config object as plain values, for files and hashes."""
    content = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    return cast(dict[str, Any], content)


def to_yaml(config: Any) -> str:
    """The resolved config as YAML."""
    return dump_yaml(plain(config))


def read_saved(file: Path, schema: type) -> dict[str, Any]:
    """Return the plain values of a saved config, with the defaults of keys that an older version did not know.

    Raises:
        OmegaConfBaseException, ValueError: it is no such config.
    """
    merged = OmegaConf.merge(OmegaConf.structured(schema), read_values(schema, read_yaml(file))[0])
    return cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))


def same_config(file: Path, config: Any, *, but: Sequence[str] = ()) -> bool:
    """Whether the config in a file is this one; keys that an older version did not know have their defaults there.

    Args:
        file: a saved config.
        config: checked.
        but: keys such as ``trainer.devices`` that may differ.
    """
    try:
        both = read_saved(file, type(config)), plain(config)
        for key in but:
            node, _, leaf = key.partition(".")
            for tree in both:
                tree.get(node, {}).pop(leaf, None)
        return both[0] == both[1]
    except (OmegaConfBaseException, ValueError):
        return False


def config_hash(content: Any) -> str:
    """12 hexadecimal digits that name a config's content."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
