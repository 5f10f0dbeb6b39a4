"""A protocol's name and overrides into a checked config, and the hash that names it in every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.family import leaves, put
from configs.files import ConfigError
from configs.load import check_config, config_hash, read_recipe
from configs.overrides import parse_overrides
from configs.schema import ProtocolConfig

KIND = "protocol"
PLACE = (
    *("data", "ids", "only", "skip_missing", "allow_count_mismatch", "system", "encoder", "prior", "allow_mismatch"),
    *("model", "batch_size", "device"),
)
"""Where a protocol is run and on what, not which one it is; no number of a set depends on it."""
_OF_SETS = ("shards", "ids")
_OF_PARTS = ("eps", "first", "limit", "attacked", "logit_scale")


def load_protocol(name: str, overrides: Sequence[str] = ()) -> ProtocolConfig:
    """The checked config of a protocol.

    Settings of parts hold for all of them where no part is named: ``limit=256``, ``eps=1,2,4`` (in 1/255, of parts
    under linf).  ``sets.NAME.KEY`` holds for the set in all parts.

    Args:
        name: of a shipped protocol, or a file.
        overrides: ``a.b=c``.

    Raises:
        ConfigError: every fault, one a line.
    """
    said = read_recipe(KIND, name)
    words = [word for one in overrides for word in _of_parts(said.get("parts") or {}, one)]
    for path, value in parse_overrides(KIND, said, words):
        put(said, path, value)
    return check_config(KIND, said)


def _of_parts(parts: Mapping[str, Any], word: str) -> list[str]:
    """An override of all parts, or of a set in all of them, as overrides of each."""
    key, _, text = word.partition("=")
    first, _, rest = key.partition(".")
    if key in _OF_PARTS:
        names = [name for name, part in parts.items() if key != "eps" or part.get("norm", "linf") == "linf"]
        listed = f"[{text}]" if key == "eps" and not text.lstrip().startswith("[") else text
        return [f"parts.{name}.{key}={listed}" for name in names]
    if first == "sets" and "." in rest:
        wanted = rest.partition(".")[0]
        names = [name for name, part in parts.items() if wanted in part.get("sets", {})]
        if not names:
            known = dict.fromkeys(one for part in parts.values() for one in part.get("sets", {}))
            raise ConfigError(f"sets.{wanted}: no such set; choose of: {', '.join(known)}")
        return [f"parts.{name}.{word}" for name in names]
    return [word]


def only_of(config: ProtocolConfig) -> list[str] | None:
    """The names that ``only`` says; None where it says none."""
    said = config.only
    if said is None:
        return None
    return [str(name).strip() for name in (said if isinstance(said, list) else str(said).split(","))]


def protocol_faults(tree: Any) -> list[str]:
    """One line for each fault of a protocol that is none of its evaluations'."""
    parts, faults = tree["parts"] or {}, []
    if not parts:
        faults.append("parts is empty; a protocol needs at least one")
    for name, part in parts.items():
        if not part["sets"]:
            faults.append(f"parts.{name}.sets is empty; name at least one data set")
        if not part["eps"]:
            faults.append(f"parts.{name}.eps is empty; name at least one radius")
    known = list(dict.fromkeys(one for part in parts.values() for one in part["sets"] or {}))
    said = tree["only"]
    wanted = [] if said is None else said if isinstance(said, list) else str(said).split(",")
    strange = [str(name).strip() for name in wanted if str(name).strip() not in known]
    if strange:
        faults.append(f"only: no set is called {', '.join(map(repr, strange))}; choose of: {', '.join(known)}")
    return faults


def content_of(config: ProtocolConfig) -> dict[str, Any]:
    """What makes a protocol the one that it is: everything but where it is run."""
    content = {key: value for key, value in asdict(config).items() if key not in PLACE}
    for part in content["parts"].values():
        part["sets"] = {
            name: {key: value for key, value in one.items() if key not in _OF_SETS}
            for name, one in part["sets"].items()
        }
    return content


def hash_of(config: ProtocolConfig, known: Any = None) -> str:
    """12 hexadecimal digits that name a protocol's content.

    Args:
        config: checked.
        known: what a catalog says of its sets.
    """
    return config_hash([content_of(config), known])


def changed(name: str, config: ProtocolConfig) -> list[str]:
    """Keys whose values are not those of the protocol's file."""
    ours, theirs = (dict(leaves(content_of(one))) for one in (config, load_protocol(name)))
    return sorted(".".join(path) for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))


def name_of(recipe: str) -> str:
    """A protocol's name, also of a file."""
    return Path(recipe).stem
