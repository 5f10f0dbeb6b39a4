"""Names that people give, and that become parts of files' names: refused where they cannot, or made so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGEST = 100  # bytes; with what stands around it, a file's name has at most 255
_FORBIDDEN = '/\\|:*?"<>'


def name_faults(tree: Mapping[str, Any]) -> list[str]:
    """One line per name of an evaluation's tasks, defences and attacks that cannot be one."""
    told = [
        (section, str(name), name_fault(str(name), of_a_file=section == "tasks"))
        for section in ("tasks", "defenses", "attacks")
        for name in tree[section]
    ]
    return [f"{section}: the name {name[:_LONGEST]!a} {fault}" for section, name, fault in told if fault]


def name_fault(name: str, *, of_a_file: bool = True) -> str:
    """Why something cannot be called this, in words; empty where it can.

    Args:
        name: of a data set, a defence or an attack.
        of_a_file: files are called after it.
    """
    if not name.strip():
        return "is no name"
    if not name.isprintable():
        return "holds characters that cannot be printed"
    if of_a_file and (found := [c for c in _FORBIDDEN if c in name]):
        return f"holds {' '.join(found)}, and files are called after it"
    if of_a_file and (name.startswith(".") or name != name.strip()):
        return "begins with a point or a space, or ends with one, and files are called after it"
    size = len(name.encode())
    return f"has {size} bytes; {_LONGEST} are enough" if size > _LONGEST else ""


def safe_name(text: str, instead: str = "unnamed") -> str:
    """The text as a name of a file that leads nowhere: other characters are dashes.

    Args:
        text: such as the last part of a path.
        instead: where nothing is left.
    """
    printable = "".join(c if c.isprintable() and c not in _FORBIDDEN else "-" for c in text).strip().lstrip(".")
    return printable.encode()[:_LONGEST].decode(errors="ignore") or instead
