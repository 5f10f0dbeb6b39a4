"""Per-sample outcomes: which images an encoder got right, under which attack and view."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        return json.dumps([self.defense, self.attack, self.view, self.eps])

    @classmethod
    def parse(cls, text: str) -> Cell:
        """The cell whose text this is."""
        defense, attack, view, eps = json.loads(text)
        return cls(str(defense), str(attack), str(view), float(eps))


@dataclass
class Outcomes:
    """What happened to a data set's images, or to some batches of them.

    Attributes:
        keys: names of the images, in order.
        draws: for each cell, one list for each draw of the noise, of one flag per image; a deterministic defence is
            scored on one draw.
        seconds: for each cell, the time it took.
        notes: for each cell, what its attack had to do otherwise than told.
        scores: for each cell of a defence with a gate, how far each image opens it; None where the attack left the
            image as it was.
        rechecks: for each cell whose points were looked at again (``eval.rechecks``), what came of it, as in ``draws``,
            by the way of looking; the worse counts.
        measures: for each cell of a task that has any, further numbers of each image by metric, in the first draw;
            None where an image has none.
    """

    keys: list[str] = field(default_factory=list)
    draws: dict[Cell, list[list[bool]]] = field(default_factory=dict)
    seconds: dict[Cell, float] = field(default_factory=dict)
    notes: dict[Cell, list[str]] = field(default_factory=dict)
    scores: dict[Cell, list[float | None]] = field(default_factory=dict)
    rechecks: dict[Cell, dict[str, list[list[bool]]]] = field(default_factory=dict)
    measures: dict[Cell, dict[str, list[float | None]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which ``from_json`` restores this."""
        cells = {
            str(cell): {
                "correct": [_digits(flags) for flags in draws],
                "seconds": self.seconds[cell],
                "notes": self.notes.get(cell, []),
                **({"rechecks": _named_digits(self.rechecks[cell])} if cell in self.rechecks else {}),
                **({"scores": self.scores[cell]} if cell in self.scores else {}),
                **({"measures": self.measures[cell]} if cell in self.measures else {}),
            }
            for cell, draws in self.draws.items()
        }
        return {"keys": self.keys, "cells": cells}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Outcomes:
        """The outcomes whose plain values these are.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: they are not.
        """
        found = cls(keys=[str(key) for key in content["keys"]])
        for text, value in content["cells"].items():
            cell = Cell.parse(text)
            found.draws[cell] = [_flags(flags) for flags in value["correct"]]
            found.seconds[cell] = float(value["seconds"])
            found.notes[cell] = [str(note) for note in value["notes"]]
            if "scores" in value:
                found.scores[cell] = _numbers(value["scores"])
            if "rechecks" in value:
                found.rechecks[cell] = {
                    str(name): [_flags(flags) for flags in draws] for name, draws in value["rechecks"].items()
                }
            if "measures" in value:
                found.measures[cell] = {str(name): _numbers(numbers) for name, numbers in value["measures"].items()}
        lengths = {len(flags) for draws in found.draws.values() for flags in draws}
        lengths |= {len(scores) for scores in found.scores.values()}
        lengths |= {len(f) for checked in found.rechecks.values() for draws in checked.values() for f in draws}
        lengths |= {len(numbers) for measured in found.measures.values() for numbers in measured.values()}
        if lengths - {len(found.keys)}:
            raise ValueError("flags or scores and keys differ in number")
        return found

    @property
    def correct(self) -> dict[Cell, list[bool]]:
        """For each cell one flag per image: right in every draw."""
        return {cell: [all(flags) for flags in zip(*draws, strict=True)] for cell, draws in self.draws.items()}

    def extend(self, other: Outcomes) -> None:
        """Append the outcomes of further images; the cells must be the same."""
        assert not self.keys or self.draws.keys() == other.draws.keys(), "cells differ"
        assert not self.keys or self.scores.keys() == other.scores.keys(), "scored cells differ"
        self.keys += other.keys
        for cell, draws in other.draws.items():
            mine = self.draws.setdefault(cell, [[] for _ in draws])
            for flags, more in zip(mine, draws, strict=True):
                flags.extend(more)
            self.seconds[cell] = self.seconds.get(cell, 0.0) + other.seconds[cell]
            said = self.notes.setdefault(cell, [])
            said += [note for note in other.notes.get(cell, []) if note not in said]
        for cell, scores in other.scores.items():
            self.scores.setdefault(cell, []).extend(scores)
        for cell, checked in other.rechecks.items():
            seen = self.rechecks.setdefault(cell, {name: [[] for _ in draws] for name, draws in checked.items()})
            for name, draws in checked.items():
                for flags, more in zip(seen[name], draws, strict=True):
                    flags.extend(more)
        for cell, measured in other.measures.items():
            known = self.measures.setdefault(cell, {name: [] for name in measured})
            for name, numbers in measured.items():
                known[name].extend(numbers)

    def keep(self, cells: Iterable[Cell]) -> None:
        """Forget every other cell, and take these into this order."""
        cells = [cell for cell in cells if cell in self.draws]
        self.draws = {cell: self.draws[cell] for cell in cells}
        self.scores = {cell: self.scores[cell] for cell in cells if cell in self.scores}
        self.rechecks = {cell: self.rechecks[cell] for cell in cells if cell in self.rechecks}
        self.measures = {cell: self.measures[cell] for cell in cells if cell in self.measures}

    def per_draw(self, cells: Iterable[Cell], rechecks: Collection[str] | None = None) -> list[list[bool]]:
        """For each draw one flag per image: right on the clean image and in every one of ``cells`` (one defence's).

        Args:
            cells: at least one.
            rechecks: the ways of looking at their points again that count; None counts all.
        """
        cells = list(cells)
        together = [self.draws[cell] for cell in [Cell(cells[0].defense), *cells]]
        for cell in cells:
            again = self.rechecks.get(cell, {})
            together += [again[name] for name in again if rechecks is None or name in rechecks]
        return [[all(flags) for flags in zip(*draw, strict=True)] for draw in zip(*together, strict=True)]

    def robust(self, cells: Iterable[Cell], rechecks: Collection[str] | None = None) -> list[bool]:
        """One flag per image: right on the clean image and in every one of ``cells``, in every draw (``per_draw``)."""
        return [all(flags) for flags in zip(*self.per_draw(cells, rechecks), strict=True)]

    def select(self, order: Iterable[int]) -> Outcomes:
        """The outcomes of some images, in the order given."""
        order = list(order)
        return Outcomes(
            keys=[self.keys[i] for i in order],
            draws={cell: [[flags[i] for i in order] for flags in draws] for cell, draws in self.draws.items()},
            seconds=dict(self.seconds),
            notes=dict(self.notes),
            scores={cell: [scores[i] for i in order] for cell, scores in self.scores.items()},
            rechecks={
                cell: {name: [[flags[i] for i in order] for flags in draws] for name, draws in checked.items()}
                for cell, checked in self.rechecks.items()
            },
            measures={
                cell: {name: [numbers[i] for i in order] for name, numbers in measured.items()}
                for cell, measured in self.measures.items()
            },
        )


def write_outcomes(path: Path, outcomes: Outcomes, **header: Any) -> None:
    """Write outcomes, all or nothing; ``header`` names what they belong to."""
    content = {**header, **outcomes.to_json()}
    write_atomically(path, json.dumps({"digest": _digest(content), **content}))


def read_outcomes(path: Path, **header: Any) -> Outcomes:
    """Outcomes of a file that belongs to ``header``.

    Raises:
        ConfigError: damaged, or of another config, checkpoint or data set.
    """
    content = read_header(path)
    for name, value in header.items():
        if content.get(name) != value:
            raise ConfigError(f"{path} belongs to another {name}; name another --out, or delete it")
    try:
        return Outcomes.from_json(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def read_header(path: Path) -> dict[str, Any]:
    """Everything in a file of outcomes, as plain values.

    Raises:
        ConfigError: damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise _damaged(path, error) from error
    if digest != _digest(content):
        raise _damaged(path, "its checksum does not fit")
    return content


def _digits(flags: Iterable[bool]) -> str:
    return "".join("01"[ok] for ok in flags)


def _named_digits(checked: Mapping[str, list[list[bool]]]) -> dict[str, list[str]]:
    return {name: [_digits(flags) for flags in draws] for name, draws in checked.items()}


def _flags(digits: str) -> list[bool]:
    return [{"0": False, "1": True}[digit] for digit in digits]


def _numbers(values: Iterable[Any]) -> list[float | None]:
    return [None if value is None else float(value) for value in values]


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _damaged(path: Path, why: object) -> ConfigError:
    return ConfigError(f"{path} is damaged ({why}); delete it to evaluate those images again")
