"""The catalog's files: one a data set, with what each protocol makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data.benchmarks.entry import Entry, Texts

SETS = Path(__file__).with_name("sets")
_TEXTS = {field.name for field in fields(Texts)}


def entry(name: str) -> Entry:
    """The entry of an id (``fare/cifar10``) or an alias (``wds/vtab/cifar10``).

    Raises:
        ValueError: no such entry, or a data set's own name that several protocols use; with the names to choose from.
    """
    known = _by_name()
    if name in known:
        return known[name]
    uses = [one.id for one in entries() if one.dataset == name]
    if uses:
        raise ValueError(f"'{name}' is used in {len(uses)} ways; choose one of: {', '.join(uses)}")
    near = get_close_matches(name, known, n=5, cutoff=0.5)
    choice = ", ".join(near) or "robustclip data catalog lists them"
    raise ValueError(f"unknown data set '{name}'; choose one of: {choice}")


def entries(protocol: str | None = None) -> list[Entry]:
    """The entries of a protocol in its order, or all of them.

    Raises:
        ValueError: unknown protocol.
    """
    found = [one for one in _all() if protocol is None or one.protocol == protocol]
    if not found:
        raise ValueError(f"unknown protocol '{protocol}'; choose one of: {', '.join(protocols())}")
    return found


def protocols() -> list[str]:
    """The protocols that the catalog has entries for."""
    return sorted({one.protocol for one in _all()})


@cache
def _all() -> tuple[Entry, ...]:
    found = [one for path in sorted(SETS.glob("*.yaml")) for one in read_entries(path)]
    return tuple(sorted(found, key=lambda one: (one.protocol, one.place, one.id)))


@cache
def _by_name() -> dict[str, Entry]:
    known: dict[str, Entry] = {}
    for one in _all():
        for name in (one.id, *one.aliases):
            assert name not in known, f"two entries are called '{name}'"
            known[name] = one
    # a data set that only one protocol uses needs no protocol in its name
    for one in _all():
        if sum(other.dataset == one.dataset for other in _all()) == 1:
            known.setdefault(one.dataset, one)
    return known


def read_entries(path: Path) -> list[Entry]:
    """The entries of one file: what stands at its top holds for all of its protocols.

    Raises:
        ValueError: a key that entries do not have.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    uses = content.pop("protocols")
    return [_entry(f"{protocol}/{path.stem}", {**content, **(own or {})}) for protocol, own in uses.items()]


def _entry(name: str, said: Mapping[str, Any]) -> Entry:
    values: dict[str, Any] = {"id": name}
    for key, value in said.items():
        if key in ("names", "templates"):
            values[key] = _texts(value)
        elif key == "layouts":
            values[key] = tuple(_layout(item) for item in value)
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    unknown = values.keys() - {field.name for field in fields(Entry)}
    if unknown:
        raise ValueError(f"'{name}' of the catalog says {', '.join(sorted(unknown))}, which entries do not have")
    return Entry(**values)


def _texts(said: Any) -> Texts:
    """``dataset``, ``user``, a list of lines, or a mapping whose ``file`` or ``package`` names the list."""
    if isinstance(said, str):
        return Texts(said)  # pyright: ignore[reportArgumentType]
    if isinstance(said, list):
        return Texts("listed", lines=tuple(said), count=len(said))
    values = dict(said)
    for origin in ("file", "package"):
        if origin in values:
            values |= {"origin": origin, "name": values.pop(origin)}
    assert values.keys() <= _TEXTS, f"unknown keys of texts: {values.keys() - _TEXTS}"
    return Texts(**values)


def _layout(said: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(said, str):
        return said, {}
    ((name, settings),) = said.items()
    return name, {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
