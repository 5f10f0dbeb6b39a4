"""What protocols do to class names: small rules, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


def strip_year(name: str) -> str:
    """Without the year that stands in the last five characters (Stanford Cars in TTC): ``Audi S4 Sedan 2012``."""
    return name[:-5] if re.fullmatch(r".+ \d{4}", name) else name


def boeing(name: str) -> str:
    """With the maker before a bare number (FGVC Aircraft in TTC): ``747-400`` becomes ``Boeing 747-400``."""
    return f"Boeing {name}" if re.match(r"7\d7(-|$)", name) else name


def person(name: str) -> str:
    """Both of Caltech101's classes of faces become ``person`` (TTC): their prompts are the same."""
    return "person" if name in ("Faces", "Faces_easy") else name


def title_case(name: str) -> str:
    """Each word with a capital, as torchvision spells the breeds of Oxford-IIIT Pet."""
    return " ".join(word.title() for word in name.split(" "))


RULES: dict[str, Callable[[str], str]] = {rule.__name__: rule for rule in (strip_year, boeing, person, title_case)}


def renamed(names: Sequence[str], rules: Sequence[str]) -> list[str]:
    """The names after the rules, one after the other."""
    for rule in rules:
        names = [RULES[rule](name) for name in names]
    return list(names)
