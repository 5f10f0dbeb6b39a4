"""Per-sample outcomes: which images an encoder got right, under which attack and view."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from configs.files import ConfigError, write_atomically

CLEAN = "none"


@dataclass(frozen=True)
class Cell:
    """A place in the table: which defence met which attack, seen how, at which radius."""

    defense: str
    attack: str = CLEAN
    view: str = CLEAN
    eps: float = 0.0

    def __str__(self) -> str:
        return f"{self.defense}|{self.attack}|{self.view}|{self.eps!r}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """The cell whose text this is."""
        defense, attack, view, eps = text.split("|")
        return cls(defense, attack, view, float(eps))


@dataclass
class Outcomes:
    """What happened to a data set's images, or to some batches of them.

    Attributes:
        keys: names of the images, in order.
        correct: for each cell, one flag per image.
        seconds: for each cell, the time it took.
    """

    keys: list[str] = field(default_factory=list)
    correct: dict[Cell, list[bool]] = field(default_factory=dict)
    seconds: dict[Cell, float] = field(default_factory=dict)

    def extend(self, other: Outcomes) -> None:
        """Append the outcomes of further images; the cells must be the same."""
        assert not self.keys or self.correct.keys() == other.correct.keys(), "cells differ"
        self.keys += other.keys
        for cell, flags in other.correct.items():
            self.correct.setdefault(cell, []).extend(flags)
            self.seconds[cell] = self.seconds.get(cell, 0.0) + other.seconds[cell]

    def robust(self, cells: list[Cell]) -> list[bool]:
        """One flag per image: right on the clean image and in every one of ``cells`` (of one defence)."""
        clean = self.correct[Cell(cells[0].defense)]
        return [ok and all(self.correct[cell][i] for cell in cells) for i, ok in enumerate(clean)]

    def to_json(self, **header: str) -> str:
        """Text from which ``read_outcomes`` restores this."""
        cells = {
            str(cell): {"correct": "".join("01"[ok] for ok in flags), "seconds": self.seconds[cell]}
            for cell, flags in self.correct.items()
        }
        return json.dumps({**header, "keys": self.keys, "cells": cells})


def write_outcomes(path: Path, outcomes: Outcomes, **header: str) -> None:
    """Write outcomes, all or nothing; ``header`` names what they belong to."""
    write_atomically(path, outcomes.to_json(**header))


def read_outcomes(path: Path, **header: str) -> Outcomes:
    """Outcomes of a file that belongs to ``header``.

    Raises:
        ConfigError: damaged, or of another config, checkpoint or data set.
    """
    try:
        content = json.loads(path.read_text())
        found = {name: content[name] for name in header}
        outcomes = Outcomes(keys=list(content["keys"]))
        for text, value in content["cells"].items():
            cell = Cell.parse(text)
            outcomes.correct[cell] = [{"0": False, "1": True}[flag] for flag in value["correct"]]
            outcomes.seconds[cell] = float(value["seconds"])
        if any(len(flags) != len(outcomes.keys) for flags in outcomes.correct.values()):
            raise ValueError("flags and keys differ in number")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(f"{path} is damaged ({error}); delete it to evaluate those images again") from error
    for name, value in header.items():
        if found[name] != value:
            raise ConfigError(f"{path} belongs to another {name}; name another --out, or delete it")
    return outcomes
