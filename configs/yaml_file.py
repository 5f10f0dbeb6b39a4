"""What a YAML file says, as plain values: small files only, no code, no unfolding without end, nothing looked up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.family import first_line
from configs.files import ConfigError

LARGEST = 1_000_000  # bytes; a recipe is a page
DEEPEST = 30


def read_yaml(path: Path) -> Any:
    """The plain values in a file; ``${…}`` stay as they are written.

    Raises:
        ConfigError: missing, too large, too deep, not YAML, or it unfolds to more than a person would write.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ConfigError(f"{path} has {size} bytes; a recipe has at most {LARGEST}")
        if _depth(path.read_bytes()) > DEEPEST:
            raise ConfigError(f"{path} is not YAML that can be read: it is nested more than {DEEPEST} deep")
        content = OmegaConf.to_container(OmegaConf.load(path))
    except ConfigError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where is not None else ""
        reason = getattr(error, "problem", None) or first_line(error)
        if "expansion" in reason:
            reason = "its anchors (&, *) unfold to more than 10000 values; write them out"
        raise ConfigError(f"{path}{line} is not YAML that can be read: {reason}") from error
    return content


def dump_yaml(content: Any, **options: Any) -> str:
    """Plain values as YAML that ``read_yaml`` reads as they are: a text such as ``1e5`` stands in quotes."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options))


class _Dumper(yaml.SafeDumper):
    """PyYAML's, but for texts that OmegaConf reads as numbers and PyYAML does not."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        float(text)
    except ValueError:
        return dumper.represent_str(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'")


_Dumper.add_representer(str, _text)


def _depth(content: bytes) -> int:
    """Levels of tables and lists within each other, counted no further than is of interest.

    YAML's fast reader goes down level by level and ends the process where there are too many.
    """
    depth = deepest = 0
    for event in yaml.parse(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        deepest = max(deepest, depth)
        if deepest > DEEPEST:
            break
    return deepest
