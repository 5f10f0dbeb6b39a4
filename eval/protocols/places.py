"""Where the sets of a protocol lie under one folder; what is wrong with any of them is told in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.files import ConfigError
from configs.protocol import only_of
from configs.schema import ProtocolConfig, ProtocolSetConfig, TaskConfig
from data.addresses import is_address
from data.benchmarks.entry import Entry
from data.benchmarks.ids import read_ids
from data.benchmarks.registry import entries, entry
from data.home import at_home
from data.layouts.reading import read_layout
from data.shards import names_shards
from eval.tasks.benchmarks import open_task

UNASKED = "not asked for"
SIZE = 224  # of the pictures that are looked at to see whether a set is there; no result depends on it


@dataclass(frozen=True)
class Missing:
    """A set that is left out.

    Attributes:
        part: of the protocol.
        name: of the set.
        why: in words.
    """

    part: str
    name: str
    why: str


@dataclass
class Places:
    """The sets that are judged, with the folder of each, and those that are not.

    Attributes:
        sets: (part, name) -> the set, its ``shards`` and ``ids`` filled in.
        missing: what is left out, and why.
    """

    sets: dict[tuple[str, str], ProtocolSetConfig]
    missing: list[Missing]


def find_places(config: ProtocolConfig) -> Places:
    """Where every set lies, each opened and counted once.

    Args:
        config: with ``data``, ``only``, ``skip_missing`` and ``ids``.

    Raises:
        ConfigError: every set that is not there or not what the catalog expects, one a line; or none is left.
    """
    wanted, found, faults = only_of(config), Places({}, []), []
    opened: dict[tuple[str, str], str] = {}
    for part, group in config.parts.items():
        for name, one in group.sets.items():
            if wanted is not None and name not in wanted:
                found.missing.append(Missing(part, name, UNASKED))
                continue
            try:
                known = entry(one.dataset)
            except ValueError as error:
                faults.append(f"sets.{name}: {error}")
                continue
            where, why = _where(config, known, name, one)
            ids, no_list = _ids(config, known, one)
            if where is None or no_list:
                reason = "; ".join(filter(None, [why, no_list]))
                found.missing.append(Missing(part, name, reason))
                faults += [] if config.skip_missing else [f"{name}: {reason}"]
                continue
            key = where, one.dataset
            if key not in opened:
                opened[key] = _fault(name, one, where, config)
                faults += [opened[key]] if opened[key] else []
            found.sets[part, name] = replace(one, shards=where, ids=ids)
    _refuse(config, found, list(dict.fromkeys(faults)))
    return found


def _refuse(config: ProtocolConfig, found: Places, faults: Sequence[str]) -> None:
    if faults:
        remedy = "" if config.skip_missing else "\nname what is there with only=…, or say skip_missing=true"
        raise ConfigError("\n".join(faults) + remedy)
    if not found.sets:
        told = "".join(f"\n{one.name}: {one.why}" for one in found.missing if one.why != UNASKED)
        raise ConfigError(f"no set is left to judge{told}")


def _ids(config: ProtocolConfig, known: Entry, one: ProtocolSetConfig) -> tuple[str | None, str]:
    """The file of a set's list, and what to ask for where there is none."""
    file = one.ids or (config.ids if known.ids else None)
    if not known.ids and file is None:
        return None, ""
    if file is None:
        return None, f"{known.id} is judged on a list of {known.ids:,} images that nobody may ship; say ids=FILE"
    try:
        read_ids(at_home(file))
    except (OSError, ValueError) as error:
        return None, f"ids={file} cannot be read ({error})"
    return str(at_home(file)), ""


def _where(config: ProtocolConfig, known: Entry, name: str, one: ProtocolSetConfig) -> tuple[str | None, str]:
    """The folder of a set, and why there is none."""
    if one.shards is not None:
        there = is_address(one.shards) or names_shards(one.shards) or at_home(one.shards).exists()
        return (one.shards, "") if there else (None, f"nothing lies at {one.shards}")
    if config.data is None:
        return None, f"say data=FOLDER, or sets.{name}.shards=FOLDER; it needs {known.needs}"
    root = at_home(config.data)
    if not root.is_dir():
        return None, f"no folder {config.data}"
    for folder in folders_of(known, name):
        if (root / folder).is_dir() and _holds(known, root / folder):
            return str(root / folder), ""
    own = [item for item in known.layouts if item[1].get("at") not in (".", "{split}") and item[0] != "parquet"]
    if _fits(replace(known, layouts=tuple(own)), root):
        return str(root), ""
    tried = ", ".join(folders_of(known, name))
    return None, f"not found under {config.data}; it needs {known.needs} (looked for {tried}, and in the folder itself)"


def folders_of(known: Entry, name: str) -> list[str]:
    """The names that a set's folder may have: clip_benchmark's, the hub's, and plain ones."""
    same = [alias for other in entries() if other.dataset == known.dataset for alias in other.aliases]
    hub = [alias.replace("/", "_", 1).replace("/", "-") for alias in same if alias.startswith("wds/")]
    plain = [name, known.dataset, known.dataset.replace("_", "-"), *(alias.rsplit("/", 1)[-1] for alias in same)]
    plain += [title for title in (known.title, known.title.lower()) if " " not in title]
    return list(dict.fromkeys([*hub, *same, *plain]))


def _holds(known: Entry, folder: Path) -> bool:
    """Whether a folder looks like the set: shards, or the first of its layouts that fits."""
    shards = [folder, folder / known.split, folder / "test"]
    if "clip_benchmark" in dict(known.layouts) and any(
        (place / "nshards.txt").is_file() or any(place.glob("*.tar")) for place in shards if place.is_dir()
    ):
        return True
    return _fits(known, folder)


def _fits(known: Entry, folder: Path) -> bool:
    layouts = [item for item in known.layouts if item[0] != "clip_benchmark"]
    try:
        return bool(layouts) and read_layout(folder, known.split, layouts) is not None
    except ValueError:
        return True  # it is laid out so, and faulty: opening it says how


def _fault(name: str, one: ProtocolSetConfig, where: str, config: ProtocolConfig) -> str:
    task = TaskConfig(where, dataset=one.dataset, allow_count_mismatch=config.allow_count_mismatch)
    try:
        open_task(name, task, SIZE)
    except ConfigError as error:
        return str(error).removeprefix("tasks.")
    return ""
