"""Doubts from outcomes: who fells what others leave standing, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from eval.card import Doubt, Severity
from eval.checks.probed import percent
from eval.outcomes import Cell, Outcomes
from eval.rechecks import AFRESH, ROUNDED
from eval.rows import Rows
from eval.stats import mcnemar
from modules.views import View, is_view

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
    doubts = [*artefact_doubts(rows, name), *chance_doubts(outcomes, rows, name)]
    if not cells:
        return doubts
    return [
        *doubts,
        *missing_doubts(outcomes, cells),
        *recheck_doubts(outcomes, cells),
        *noise_doubts(outcomes, cells),
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


def chance_doubts(outcomes: Outcomes, rows: Rows, name: str) -> list[Doubt]:
    """A clean accuracy that guessing reaches."""
    cell = Cell(name)
    if rows.classes < 2 or cell not in outcomes.draws or (clean := _share(outcomes, cell)) > 1 / rows.classes:
        return []
    text = (
        f"Without an attack {percent(clean)} of the images are right, and guessing among {rows.classes} classes gets "
        f"{percent(1 / rows.classes)}: there is no accuracy that an attack could take."
    )
    return [Doubt("at_chance", "red", text)]


def missing_doubts(outcomes: Outcomes, cells: Sequence[Cell]) -> list[Doubt]:
    """What was not tried, or on too little."""
    doubts, n, views = [], len(outcomes.keys), {cell.view for cell in cells}
    if not any(is_view(view, "exact") for view in views):
        text = f"Nobody attacked through the defence itself; only these views were tried: {', '.join(sorted(views))}."
        doubts.append(Doubt("no_adaptive", "red", text))
    if View.query not in views:
        text = "No attack without gradients was tried; it is what notices a gradient that misleads."
        doubts.append(Doubt("no_query", "amber", text))
    if View.eot in views and len(outcomes.draws[cells[0]]) == 1:
        text = "The defence is random, and was scored on a single draw of its noise: another draw gives another number."
        doubts.append(Doubt("one_draw", "amber", text))
    if n < FEW:
        text = f"There are only {n} images; the interval is too wide to compare numbers."
        doubts.append(Doubt("few_images", "amber", text))
    return doubts


def recheck_doubts(outcomes: Outcomes, cells: Sequence[Cell]) -> list[Doubt]:
    """Images that fall only once the points found are rounded to 8 bits, or shown to an untouched copy."""
    n, found = len(outcomes.keys), sum(outcomes.robust(cells, rechecks=()))
    afresh, rounded = (found - sum(outcomes.robust(cells, rechecks=(name,))) for name in (AFRESH, ROUNDED))
    doubts = []
    if afresh / n > QUERY:
        text = (
            f"{afresh} attacked images that the defense gets right are wrong for a copy of it that was never asked "
            "before: it remembers, and its numbers depend on what was asked before."
        )
        doubts.append(Doubt("remembers", "red" if afresh > ONE_IMAGE else "amber", text))
    if rounded / n > AMBER and rounded > ONE_IMAGE:
        text = (
            f"{rounded} images that stand against every attack fall once its points are rounded to 8 bits, as pictures "
            "are: the defense answers otherwise off the grid of grey levels, where attackers walk."
        )
        doubts.append(Doubt("watches_pixels", "red", text))
    return doubts


def noise_doubts(outcomes: Outcomes, cells: Sequence[Cell]) -> list[Doubt]:
    """Random points fell images that no gradient fells."""
    if (found := _without_gradient(outcomes, cells, View.control)) is None:
        return []
    only, _, severity = found
    text = (
        f"Random points of the ball fell {only:.3g} images ({percent(only / len(outcomes.keys))}) that every view with "
        "a gradient leaves standing: following that gradient is worse than following nothing."
    )
    return [Doubt("noise_wins", severity, text)]


def query_doubts(outcomes: Outcomes, cells: Sequence[Cell]) -> list[Doubt]:
    """Attacks that only ask for answers fell images that no gradient fells."""
    if (found := _without_gradient(outcomes, cells, View.query)) is None:
        return []
    only, left, severity = found
    text = (
        f"Attacks that only ask for answers fell {only:.3g} images ({percent(only / len(outcomes.keys))}) that every "
        f"view with a gradient leaves standing, of {left:.3g}: the gradients mislead, or their attacks are too weak."
    )
    return [Doubt("query_wins", severity, text)]


def _without_gradient(outcomes: Outcomes, cells: Sequence[Cell], view: View) -> tuple[float, float, Severity] | None:
    """Images that a view without a gradient fells alone, those that all others leave, and how grave that is.

    None where it fells none, or nothing can be compared.
    """
    those = [cell for cell in cells if cell.view == view]
    seeing = [cell for cell in cells if not is_view(cell.view, "gradient_free")]
    if not those or not seeing:
        return None
    left, right = _mean(outcomes, seeing), _mean(outcomes, [*seeing, *those])
    only, n, random = left - right, len(outcomes.keys), len(outcomes.draws[cells[0]]) > 1
    if only / n <= QUERY:
        return None
    slack = max(LUCK * n, ONE_IMAGE) if random else ONE_IMAGE
    return only, left, "red" if only > slack else "amber"


def blunt_doubts(outcomes: Outcomes, cells: Sequence[Cell]) -> list[Doubt]:
    """Views that ignore the defence's gradient beat those that follow it."""
    own = [cell for cell in cells if is_view(cell.view, "own")]
    doubts = []
    for view in (view for view in View if view.blunt):
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
