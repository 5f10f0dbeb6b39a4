"""What a finished evaluation left standing, image by image, read back for a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.files import ConfigError
from eval.card import FILE, read_card
from eval.merge import PREFIX, shards_in
from eval.outcomes import CLEAN, Cell, Outcomes, read_header, read_outcomes
from eval.rows import Rows
from eval.tables import plain, threat_name

BARE = "none"


@dataclass(frozen=True)
class Standing:
    """One encoder behind one defence on one data set.

    Attributes:
        folder: of the evaluation.
        encoder: display name.
        defense: name.
        dataset: name.
        threat: e.g. ``ℓ∞ 4/255``.
        attacks: names of those behind the worst case.
        doubt: why the worst case is no robustness; empty where nothing is known.
        clean: image id -> right without an attack.
        worst: image id -> right clean, after every attack, through every view and in every draw.
    """

    folder: Path
    encoder: str
    defense: str
    dataset: str
    threat: str
    attacks: tuple[str, ...]
    doubt: str
    clean: dict[str, bool]
    worst: dict[str, bool]

    @property
    def name(self) -> str:
        """``CLIP`` or ``CLIP + ttc``."""
        return self.encoder if self.defense == BARE else f"{self.encoder} + {self.defense}"


def read_standing(folder: Path, defense: str | None = None) -> list[Standing]:
    """What is standing in the folder of an evaluation or a scorecard, one for each data set.

    Args:
        folder: with ``outcomes-<dataset>.json``.
        defense: name; else the only one besides ``none``, and ``none`` where there is none or several.

    Raises:
        ConfigError: no folder, no or damaged outcomes, a part of a whole, or no such defence.
    """
    if not folder.is_dir():
        raise ConfigError(f"no run folder at {folder}; give the folder of an evaluation or a scorecard")
    files = sorted(folder.glob(PREFIX + "*.json"))
    if not files:
        remedy = f"robustclip report {folder} joins its shards" if shards_in(folder) else "evaluate there first"
        raise ConfigError(f"{folder} holds no {PREFIX}*.json; {remedy}")
    return [_standing(file, defense) for file in files]


def _standing(file: Path, wanted: str | None) -> Standing:
    header, outcomes = read_header(file), read_outcomes(file)
    if header.get("shard", "1/1") != "1/1":
        raise ConfigError(f"{file} is part {header['shard']} of an evaluation; join the parts with robustclip report")
    if len(set(outcomes.keys)) < len(outcomes.keys):
        raise ConfigError(f"{file} names an image twice, so its images cannot be paired; evaluate again")
    try:
        rows = Rows.from_json(header["rows"])
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{file} is damaged (it says not what it belongs to); evaluate again") from error
    defense = _chosen(file, outcomes, wanted)
    cells = rows.attacks(outcomes, defense)
    if not cells:
        raise ConfigError(f"{file} holds no attack on {plain(defense)!r}; evaluate with at least one attack first")
    return Standing(
        folder=file.parent,
        encoder=plain(rows.subject.encoder),
        defense=plain(defense),
        dataset=plain(rows.dataset),
        threat=threat_name(plain(rows.norm), rows.eps),
        attacks=tuple(dict.fromkeys(plain(cell.attack) for cell in cells)),
        doubt=_doubt(file.parent, rows, defense),
        clean=_flags(outcomes, [Cell(defense)]),
        worst=_flags(outcomes, cells),
    )


def _chosen(file: Path, outcomes: Outcomes, wanted: str | None) -> str:
    there = list(dict.fromkeys(cell.defense for cell in outcomes.draws if cell.attack == CLEAN))
    others = [name for name in there if name != BARE]
    defense = wanted if wanted is not None else others[0] if len(others) == 1 else BARE
    if defense not in there:
        names = ", ".join(map(plain, there))
        raise ConfigError(f"no defence {defense!r} in {file}; name one of its own with --defense: {names}")
    return defense


def _doubt(folder: Path, rows: Rows, defense: str) -> str:
    """Why the worst case of a defence is not believable, as far as its folder says."""
    artefact = rows.artefacts.get(defense, "")
    if artefact:
        return f"artefact: {plain(artefact)}"
    if not (folder / FILE).is_file():
        return ""
    card = read_card(folder)
    red = [plain(doubt.name) for doubt in card.doubts if doubt.severity == "red"]
    return f"red doubt: {', '.join(red)}" if red and (card.defense, card.dataset) == (defense, rows.dataset) else ""


def _flags(outcomes: Outcomes, cells: Sequence[Cell]) -> dict[str, bool]:
    return dict(zip(outcomes.keys, outcomes.robust(cells), strict=True))


def paired(first: Sequence[Standing], second: Sequence[Standing]) -> list[tuple[Standing, Standing]]:
    """The pairs about the same data set, and there inside the same threat.

    Raises:
        ConfigError: no common data set, or another threat.
    """
    there = {standing.dataset: standing for standing in second}
    pairs = [(standing, there[standing.dataset]) for standing in first if standing.dataset in there]
    if not pairs:
        left, right = (", ".join(s.dataset for s in side) for side in (first, second))
        raise ConfigError(
            f"{first[0].folder} is about {left}, {second[0].folder} about {right}; compare runs on the same data set"
        )
    for a, b in pairs:
        if a.threat != b.threat:
            raise ConfigError(
                f"on {a.dataset} {a.folder} was attacked inside {a.threat}, {b.folder} inside {b.threat}; "
                "evaluate both inside the same threat"
            )
    return pairs
