"""Class names and templates: from the data, from a shipped file, from an installed package; checked by their hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from data.benchmarks.entry import Entry, Texts
from data.catalog import CLASS_FILE, TEMPLATE_FILE

NAMES = Path(__file__).with_name("names")
Published = Callable[[str], Sequence[str]]
"""The list that an installed package has under a name; handed in, since this floor imports no such package."""


def digest(lines: Sequence[str]) -> str:
    """sha256 of a list, one line each."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def prompts_hash(names: Sequence[str], templates: Sequence[str]) -> str:
    """12 hexadecimal digits that name a set of prompts."""
    return hashlib.sha256(f"{digest(names)}{digest(templates)}".encode()).hexdigest()[:12]


def resolve(
    texts: Texts, entry: Entry, what: str, own: Sequence[str], published: Published | None, where: str
) -> list[str]:
    """The class names or templates of an entry.

    Args:
        texts: where they come from.
        entry: whose they are.
        what: ``class names`` or ``templates``, for messages.
        own: what the data itself has; may be empty.
        published: lists of installed packages.
        where: the data lies.

    Raises:
        ValueError: the data has none, a list is not the one that was meant, or their number is another.
    """
    file = CLASS_FILE if what == "class names" else TEMPLATE_FILE
    if texts.origin == "listed":
        lines = list(texts.lines)
    elif texts.origin == "file":
        lines = (NAMES / texts.name).read_text(encoding="utf-8").splitlines()
    elif texts.origin == "package":
        if published is None:
            raise ValueError(f"{entry.id} takes its {what} from {texts.name}, which is not to be had here")
        lines = list(published(texts.name))
    elif own:
        lines = list(own)
    else:
        asked = f" ({texts.count})" if texts.count else ""
        raise ValueError(
            f"{entry.id} takes its {what}{asked} from the data set, and '{where}' has none; put a {file} there, "
            f"one a line{', with {c} for the class' if what == 'templates' else ''}"
        )
    _check(lines, texts, entry, what, where)
    return lines


def _check(lines: Sequence[str], texts: Texts, entry: Entry, what: str, where: str) -> None:
    if texts.sha256 and digest(lines) != texts.sha256:
        whence = f"{texts.name} of this installation" if texts.origin == "package" else texts.name or f"'{where}'"
        raise ValueError(
            f"{entry.id}: the {what} of {whence} are not those that were meant (sha256 {digest(lines)[:12]}, expected "
            f"{texts.sha256[:12]}); install the versions of .ci/constraints.txt"
        )
    if texts.count is not None and len(lines) != texts.count:
        raise ValueError(f"{entry.id}: '{where}' has {len(lines)} {what} where {texts.count} belong; fetch it again")


def tied(names: Sequence[str]) -> dict[str, list[int]]:
    """Names that several classes have, with the classes' numbers."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    return {name: [i for i, other in enumerate(names) if other == name] for name in twice}


def identities(names: Sequence[str]) -> list[str]:
    """The names, with the class's number added where several classes have one."""
    twice = tied(names)
    return [f"{name} (class {i})" if name in twice else name for i, name in enumerate(names)]
