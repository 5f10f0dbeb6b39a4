"""Published numbers, as they were read: nothing is filled in, and each says how well it is known."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published.csv")
AVERAGE, CLEAN = "average", "clean"
MARKS = {"yes": "", "secondary": "²"}
"""What stands behind a number: read in the document of those who made it, or (²) in one by others."""


@dataclass(frozen=True)
class Published:
    """An accuracy that somebody published.

    Attributes:
        protocol: that it is of, or nearest to.
        system: e.g. ``FARE4``, ``TTC``.
        architecture: open_clip's name; empty where it is not stated.
        weights: family of the base weights (``openai``, ``laion2b``); empty where it is not stated.
        model: as the source has it.
        dataset: our name of the set, or ``average``.
        norm: ``none`` for clean images; empty where it is not stated.
        eps_255: radius times 255; None where it is not stated.
        column: our name of the attack, ``clean`` for none; empty where it fits none of ours.
        attack: as the source has it.
        accuracy_pct: the number, as it was printed.
        paper: who reports it.
        source: where it was read.
        verified: ``yes`` or ``secondary``.
    """

    protocol: str
    system: str
    architecture: str
    weights: str
    model: str
    dataset: str
    norm: str
    eps_255: float | None
    column: str
    attack: str
    accuracy_pct: str
    paper: str
    source: str
    verified: str

    @property
    def text(self) -> str:
        """The number as printed, with its mark."""
        return f"{self.accuracy_pct}{MARKS[self.verified]}"


@cache
def all_published() -> tuple[Published, ...]:
    """Every number of the file."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(Published(**{**row, "eps_255": float(row["eps_255"]) if row["eps_255"] else None}) for row in rows)  # pyright: ignore[reportArgumentType]


def of_protocol(protocol: str) -> list[Published]:
    """The numbers of a protocol."""
    return [one for one in all_published() if one.protocol == protocol]


def beside(
    protocol: str, systems: Sequence[str], model: tuple[str, str], dataset: str, eps: float, column: str
) -> list[Published]:
    """The published numbers that stand beside one of ours; empty where none is known.

    Args:
        protocol: name.
        systems: names that the system has in published tables.
        model: (architecture, pretrained) of open_clip.
        dataset: our name, or ``average``.
        eps: radius in [0, 1] pixels, of linf; 0 for clean images.
        column: our name of the attack.
    """
    return [
        one
        for one in of_protocol(protocol)
        if one.system in systems
        and (one.dataset, one.column) == (dataset, column)
        and one.eps_255 is not None
        and abs(one.eps_255 - 255 * eps) < 1e-6
        and is_model(one, model)
    ]


def is_model(one: Published, model: tuple[str, str]) -> bool:
    """Whether a published number may be of this base model; what the source does not state contradicts nothing."""
    architecture, pretrained = family_of(*model)
    return bool(one.architecture) and one.architecture == architecture and one.weights in ("", pretrained)


def family_of(architecture: str, pretrained: str) -> tuple[str, str]:
    """Architecture and family of the weights: ``ViT-B-32``, ``laion2b``."""
    family = re.match(r"openai|laion2b|laion400m|datacomp", pretrained.lower())
    return architecture.removesuffix("-quickgelu"), family[0] if family else pretrained


def unplaced(protocol: str) -> list[Published]:
    """Numbers that say too little to stand beside any of ours."""
    return [one for one in of_protocol(protocol) if one.eps_255 is None or not one.architecture or not one.column]


def systems_for(protocol: str, model: tuple[str, str]) -> list[str]:
    """The systems that have numbers on this protocol with this base model."""
    return list(dict.fromkeys(one.system for one in of_protocol(protocol) if is_model(one, model)))


def released_as(model: str) -> tuple[str, str, str] | None:
    """(system, architecture, weights) of a model that FARE's authors put on the hub; None of any other."""
    found = re.fullmatch(r"hf-hub:chs20/(fare|tecoa)(\d)-clip", model)
    if found:
        return f"{_CASED[found[1]]}{found[2]}", "ViT-L-14", "openai"
    found = re.fullmatch(r"hf-hub:chs20/(FARE|TeCoA)(\d)-(ViT-B-32|ViT-B-16|convnext_base_w)-(laion2B).*", model)
    return (f"{found[1]}{found[2]}", found[3], found[4].lower()) if found else None


_CASED = {"fare": "FARE", "tecoa": "TeCoA"}
