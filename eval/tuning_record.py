"""What a tuning found, as plain values: every setting's scores in every rung, the winner, and the verdict."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from configs.files import ConfigError, write_atomically
from eval.card import Doubt, Share
from eval.compare import Comparison
from eval.stats import Estimate, McNemar

FILE = "tuning.json"

Fate = Literal["kept", "worst case", "clean accuracy"]
Kind = Literal["beats", "does not beat", "is worse", "not believable"]


@dataclass(frozen=True)
class Score:
    """What is left of an encoder, with or without a defence.

    Attributes:
        clean: without an attack, in the mean draw.
        worst: right untouched and after every attack, through every view, in every draw.
        transfer: the same over the attacks alone that look past the defence; None for the undefended encoder.
        mean_draw: the worst case in one draw of the defence's noise, on average; None where there is one draw.
        met: attacks times views behind the worst case.
    """

    clean: Share
    worst: Share
    transfer: Share | None
    mean_draw: Share | None
    met: int


@dataclass(frozen=True)
class Tried:
    """A setting in a rung.

    Attributes:
        name: e.g. ``steps=3 t_min=0.9``.
        settings: the searched keywords.
        score: on the rung's images.
        cost: floating-point operations of classifying one image, over those of the undefended encoder.
        fate: ``kept``, or what dropped it: its worst case, or its clean accuracy.
    """

    name: str
    settings: dict[str, Any]
    score: Score
    cost: float
    fate: Fate = "kept"


@dataclass(frozen=True)
class Rung:
    """A round of the choice.

    Attributes:
        name: of the rung.
        attacks: that every setting met.
        bare: the undefended encoder on the same images.
        tried: best first.
    """

    name: str
    attacks: list[str]
    bare: Score
    tried: list[Tried]


@dataclass(frozen=True)
class Verdict:
    """Whether the winner beats the undefended encoder: ``kind`` in a word, and ``sentences``."""

    kind: Kind
    sentences: list[str]


@dataclass(frozen=True)
class Tuning:
    """A finished tuning.

    Attributes:
        encoder: display name.
        model: name or checkpoint.
        defense: the component's name.
        fixed: its settings that were not searched.
        search: the searched keywords with their values.
        grid: settings that the grid holds.
        impossible: combinations that the defence refuses, with its reason.
        dataset: on which images.
        norm: of the threat.
        eps: its radius in [0, 1] pixels.
        max_clean_drop: clean accuracy that a setting might lose.
        rungs: in order.
        winner: its name.
        line: the overrides that set it.
        bare: the undefended encoder on the judging images.
        judged: the winner on the same images.
        comparison: of the two worst cases, winner first.
        verdict: in words.
        doubts: about the winner.
        qualifier: what every number must be read with, such as that the prior belongs to another encoder.
        command: that reproduces it.
        weights: hash of the encoder.
        seed: of the tuning.
    """

    encoder: str
    model: str
    defense: str
    fixed: dict[str, Any]
    search: dict[str, list[Any]]
    grid: int
    impossible: dict[str, str]
    dataset: str
    norm: str
    eps: float
    max_clean_drop: float
    rungs: list[Rung]
    winner: str
    line: str
    bare: Score
    judged: Score
    comparison: Comparison
    verdict: Verdict
    doubts: list[Doubt] = field(default_factory=list)
    qualifier: str = ""
    command: str = ""
    weights: str = ""
    seed: int = 0

    @property
    def chosen(self) -> Tried:
        """The winner as the last rung saw it."""
        return self.rungs[-1].tried[0]

    @property
    def count(self) -> int:
        """How many settings were tried."""
        return len(self.rungs[0].tried)


def write_tuning(folder: Path, tuning: Tuning) -> Path:
    """Write ``tuning.json`` to a folder, all or nothing; nothing in it is a time."""
    content = asdict(tuning)
    found = tuning.comparison
    content["comparison"] |= {"difference": found.difference._asdict(), "test": found.test._asdict()}
    write_atomically(folder / FILE, json.dumps(content, indent=1))
    return folder / FILE


def read_tuning(folder: Path) -> Tuning:
    """The tuning of a folder.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(f"no tuning at {path}; robustclip tune makes one")
    try:
        return _tuning(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}); tune again into another folder") from error


def _tuning(content: dict[str, Any]) -> Tuning:
    found = content["comparison"]
    test, difference = McNemar(**found["test"]), Estimate(**found["difference"])
    made = {
        "rungs": [_rung(rung) for rung in content["rungs"]],
        "bare": _score(content["bare"]),
        "judged": _score(content["judged"]),
        "comparison": Comparison(**{**found, "test": test, "difference": difference}),
        "verdict": Verdict(**content["verdict"]),
        "doubts": [Doubt(**doubt) for doubt in content["doubts"]],
    }
    return Tuning(**{**content, **made})


def _rung(content: dict[str, Any]) -> Rung:
    tried = [Tried(**{**one, "score": _score(one["score"])}) for one in content["tried"]]
    return Rung(content["name"], content["attacks"], _score(content["bare"]), tried)


def _score(content: dict[str, Any]) -> Score:
    shares = {name: value and Share(**value) for name, value in content.items() if name != "met"}
    return Score(**shares, met=content["met"])
