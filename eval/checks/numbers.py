"""Doubts from outcomes: who fells what others leave standing, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from eval.card import Doubt
from eval.checks.probed import percent
from eval.outcomes import Cell, Outcomes
from eval.rows import Rows
from eval.stats import mcnemar

OWN = ("adaptive", "eot", "smooth", "gate", "surrogate", "trajectory")  # views through the defence
EXACT = ("adaptive", "eot")  # without one of them nobody has looked through the defence as it is
QUERY = 0.002  # AutoAttack's own threshold: 0.2 points
ONE_IMAGE = 1  # what luck may fell beside the gradient's views; from two on it is a pattern
LUCK = 0.02  # of noise: a further try at other points fells a few more of a random defence
AMBER, RED = 0.02, 0.10  # by how much a blunter view may beat the own ones
LIKELY = 0.05  # level of the test that such a difference is no chance
ABOVE = 0.02  # transferred images may happen to be easier, by a little
FEW = 100  # images: below, the 95 % interval is 20 points wide
UNDEFENDED = "none"


def outcome_doubts(outcomes: Outcomes, rows: Rows, name: str) -> list[Doubt]:
    """All doubts of this file."""
    cells = rows.attacks(outcomes, name)
    doubts = artefact_doubts(rows, name)
    if not cells:
        return doubts
    return [
        *doubts,
        *missing_doubts(outcomes, cells),
        *query_doubts(outcomes, cells),
        *blunt_doubts(outcomes, cells),
        *above_doubts(outcomes, cells),
    ]


def artefact_doubts(rows: Rows, name: str) -> list[Doubt]:
    """Behaviour that is kept only to reproduce a release."""
    label = rows.artefacts.get(name)
    if not label:
        return []
    text = f"This is the artefact {label!r}: it reproduces a release's behaviour and is never read as robustness."
    return [Doubt("artefact", "red", text)]


def missing_doubts(outcomes: Outcomes, cells: Sequence[Cell]) -> list[Doubt]:
    """What was not tried, or on too little."""
    doubts, n, views = [], len(outcomes.keys), {cell.view for cell in cells}
    if not views & set(EXACT):
        text = f"Nobody attacked through the defence itself; only these views were tried: {', '.join(sorted(views))}."
        doubts.append(Doubt("no_adaptive", "red", text))
    if "query" not in views:
        text = "No attack without gradients was tried; it is what notices a gradient that misleads."
        doubts.append(Doubt("no_query", "amber", text))
    if "eot" in views and len(outcomes.draws[cells[0]]) == 1:
        text = "The defence is random, and was scored on a single draw of its noise: another draw gives another number."
        doubts.append(Doubt("one_draw", "amber", text))
    if n < FEW:
        text = f"There are only {n} images; the interval is too wide to compare numbers."
        doubts.append(Doubt("few_images", "amber", text))
    return doubts


def query_doubts(outcomes: Outcomes, cells: Sequence[Cell]) -> list[Doubt]:
    """Attacks that only ask for answers fell images that no gradient fells."""
    asking = [cell for cell in cells if cell.view == "query"]
    seeing = [cell for cell in cells if cell.view != "query"]
    if not asking or not seeing:
        return []
    left, right = _mean(outcomes, seeing), _mean(outcomes, [*seeing, *asking])
    only, n, random = left - right, len(outcomes.keys), len(outcomes.draws[cells[0]]) > 1
    if only / n <= QUERY:
        return []
    text = (
        f"Attacks that only ask for answers fell {only:.3g} images ({percent(only / n)}) that every view with a "
        f"gradient leaves standing, of {left:.3g}: the gradients mislead, or their attacks are too weak."
    )
    slack = max(LUCK * n, ONE_IMAGE) if random else ONE_IMAGE
    return [Doubt("query_wins", "red" if only > slack else "amber", text)]


def blunt_doubts(outcomes: Outcomes, cells: Sequence[Cell]) -> list[Doubt]:
    """Views that ignore the defence's gradient beat those that follow it."""
    own = [cell for cell in cells if cell.view in OWN]
    doubts = []
    for view in ("transfer", "bpda"):
        blunt = [cell for cell in cells if cell.view == view]
        if not own or not blunt:
            continue
        lead = (_mean(outcomes, own) - _mean(outcomes, blunt)) / len(outcomes.keys)
        chance = mcnemar(outcomes.robust(own), outcomes.robust(blunt)).p
        if lead <= AMBER or chance > LIKELY:
            continue
        text = (
            f"The {view} view, which does not follow the defence's own gradient, leaves {100 * lead:.1f} points less "
            "standing than all views that do: that gradient hides the way."
        )
        doubts.append(Doubt(f"{view}_wins", "red" if lead > RED else "amber", text))
    return doubts


def above_doubts(outcomes: Outcomes, cells: Sequence[Cell]) -> list[Doubt]:
    """Attacked images that are easier than clean ones, or harder for the encoder without an attack."""
    doubts, n, name = [], len(outcomes.keys), cells[0].defense
    clean = _share(outcomes, Cell(name))
    for cell in cells:
        attacked = _share(outcomes, cell)
        if attacked > clean + max(ABOVE, 2 / n):
            text = (
                f"Under {cell.attack} ({cell.view}) {percent(attacked)} of the images are right, of the clean ones "
                f"only {percent(clean)}: no attack helps an honest defence."
            )
            doubts.append(Doubt("above_clean", "red", text))
            break
    bare = Cell(UNDEFENDED)
    if name != UNDEFENDED and bare in outcomes.draws:
        robust, undefended = _mean(outcomes, cells) / n, _share(outcomes, bare)
        if robust > undefended + max(ABOVE, 2 / n):
            text = (
                f"Attacked, the defence keeps {percent(robust)}; the bare encoder has {percent(undefended)} on clean "
                "images. A purifier cannot know more than the encoder it feeds."
            )
            doubts.append(Doubt("above_undefended", "red", text))
    return doubts


def _mean(outcomes: Outcomes, cells: Sequence[Cell]) -> float:
    """Images that are right under all cells, in the mean over draws."""
    draws = outcomes.per_draw(cells)
    return sum(sum(flags) for flags in draws) / len(draws)


def _share(outcomes: Outcomes, cell: Cell) -> float:
    """Share of a cell's images that are right, in the mean over draws, whatever the clean ones are."""
    draws = outcomes.draws[cell]
    return sum(sum(flags) for flags in draws) / (len(draws) * max(len(outcomes.keys), 1))
