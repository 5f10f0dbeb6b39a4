"""The page of the perceptual demo: distances, choices, searches, and what one sees inside encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from configs.files import write_atomically
from eval.inert import inert
from eval.pages.inversion import Wanted, blocks_of, how_told
from eval.pages.picture import Picture, data_uri
from eval.pages.render import render, style
from eval.pages.words import STAND_IN
from eval.perceptual.changes import ATTACKED, Course
from eval.perceptual.legible import DIRECTIONS, Legible
from eval.perceptual.looked_into import LookedInto
from eval.results import Result
from eval.stats import Estimate
from eval.tables import HeadlineRow, headline, percent

SHOWN = 10  # pictures beside one another
QUESTIONS = {
    ("2afc", "reference"): "which of two is nearer; the reference attacked",
    ("2afc", "all"): "which of two is nearer; all three attacked",
    ("retrieval", "search"): "the first found is a digit of its class; the query attacked",
}


@dataclass(frozen=True)
class Perceived:
    """All that the demo measured, by encoder, the original first.

    Attributes:
        courses: distances of changed pictures.
        apart: mean distance of pictures of different classes.
        rows: of the harness: choices and searches.
        grey: names inverted out of grey.
        changed: digits asked to become others.
        classes: their names.
        readers: accuracy of the readers on held-out pictures.
        digits: share of strokes of held-out pictures themselves, about their mean.
    """

    courses: Mapping[str, Sequence[Course]]
    apart: Mapping[str, Estimate]
    rows: Sequence[Result]
    grey: LookedInto
    changed: LookedInto
    classes: Sequence[str]
    readers: Mapping[str, Estimate]
    digits: Estimate


def build_perceiving(folder: Path, seen: Perceived, facts: Mapping[str, Any]) -> Path:
    """The path of ``folder/index.html``, self-contained, written whole.

    Args:
        folder: where it goes.
        seen: what was measured.
        facts: ``command`` and ``quick``, and what else there is to say.
    """
    page = render(
        "perceiving.html.j2",
        title="What encoders find alike: " + " and ".join(inert(list(seen.courses))),
        style=style("style.css", "inversion.css"),
        encoders=inert(list(seen.courses)),
        quick=bool(facts.get("quick")),
        stand_in=STAND_IN,
        lead=lead(seen),
        courses=_courses(seen),
        questions=_questions(seen.rows, list(seen.courses)),
        blocks=blocks_of(
            [Wanted("text", str(seen.classes[c])) for c in (3, 8)],
            [(name, _only(found, (3, 8))) for name, found in seen.grey.found.items()],
        ),
        grey=_strip(seen.grey, seen.classes),
        changed=_strip(seen.changed, seen.classes),
        grey_told=how_told(seen.grey.how, "grey", 0),
        changed_told=how_told(seen.changed.how, "a held-out digit", 0),
        legible=[
            ("ten names, out of grey", _legible(seen.grey.legible)),
            ("digits asked to become others", _legible(seen.changed.legible)),
        ],
        readers=[(name, estimate) for name, estimate in seen.readers.items()],
        digits=seen.digits,
        noise=noise_share(seen),
        directions=DIRECTIONS,
        numbers=seen.grey.start[0].numel(),
        facts=[
            (inert(str(name)), inert(str(value))) for name, value in facts.items() if name not in ("command", "quick")
        ],
        command=inert(str(facts.get("command", ""))),
    )
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def lead(seen: Perceived) -> list[str]:
    """A few sentences with the numbers that matter, the original beside the robust encoder."""
    first, last = list(seen.courses)[0], list(seen.courses)[-1]
    table = {(row.task, row.dataset, row.encoder): row.worst for row in headline(seen.rows) if row.worst}
    sentences = [_moved(seen, first, last)]
    for (task, dataset), words in QUESTIONS.items():
        a, b = table.get((task, dataset, first)), table.get((task, dataset, last))
        if a and b:
            told = f"{first} is right in {percent(a.value)} %, {last} in {percent(b.value)} %."
            sentences.append(f"{words[0].upper()}{words[1:]}: {told}")
    a, b = seen.grey.legible[first], seen.grey.legible[last]
    sentences.append(
        f"Of what gradients draw out of grey, {percent(a.strokes.value)} % ({first}) and {percent(b.strokes.value)} % "
        f"({last}) lies where digits vary; of noise, {percent(noise_share(seen))} %."
    )
    a, b = seen.changed.legible[first], seen.changed.legible[last]
    reader = next(iter(a.read))
    sentences.append(
        f"Digits asked to become others are read as those in {percent(a.read[reader].value)} % ({first}) and "
        f"{percent(b.read[reader].value)} % ({last}), by {reader} that never met an encoder."
    )
    return sentences


def _moved(seen: Perceived, first: str, last: str) -> str:
    """How far an attack moves both, at the strength before the last."""
    far = {}
    for name in (first, last):
        course = next(one for one in seen.courses[name] if one.change == ATTACKED)
        far[name] = percent(course.distances[-2].value / seen.apart[name].value)
        strength = course.strengths[-2]
    return (
        f"An attack of {strength} moves a picture by {far[first]} % of the distance between different digits for "
        f"{first}, by {far[last]} % for {last}."
    )


def noise_share(seen: Perceived) -> float:
    """Share of strokes that noise has: of all directions of pixels, those that are looked at."""
    return DIRECTIONS / seen.grey.start[0].numel()


def _courses(seen: Perceived) -> list[dict[str, Any]]:
    """For each change, its strengths, and for each encoder the distances and pictures."""
    names = list(seen.courses)
    return [
        {
            "change": course.change,
            "attacked": course.change == ATTACKED,
            "strengths": course.strengths,
            "rows": [
                {
                    "encoder": name,
                    "distances": mine.distances,
                    "apart": seen.apart[name].value,
                    "rising": mine.rising,
                    "pictures": [data_uri(x.float().numpy()) for x in mine.shown],
                }
                for name in names
                for mine in [seen.courses[name][number]]
            ],
        }
        for number, course in enumerate(seen.courses[names[0]])
    ]


def _questions(rows: Sequence[Result], encoders: Sequence[str]) -> list[dict[str, Any]]:
    table: dict[tuple[str, str, str], HeadlineRow] = {
        (r.task, r.dataset, r.encoder): r for r in headline(rows) if r.worst
    }
    found = []
    for (task, dataset), words in QUESTIONS.items():
        mine = [table[task, dataset, name] for name in encoders if (task, dataset, name) in table]
        if mine and mine[0].clean:
            found.append({"words": words, "n": mine[0].clean.n, "rows": mine})
    return found


def _strip(looked: LookedInto, classes: Sequence[str]) -> dict[str, Any]:
    shown = min(SHOWN, len(looked.asked))
    asked, was = looked.asked.tolist()[:shown], looked.was.tolist()[:shown]
    started = [Picture(data_uri(x.numpy()), "start") for x in looked.start[:shown]] if was[0] >= 0 else []
    rows = []
    for name, found in looked.found.items():
        said = looked.said[name].tolist()
        pictures = [
            Picture(data_uri(x.float().cpu().numpy()), name, str(classes[said[i]]), said[i] == asked[i])
            for i, x in enumerate(found.x[:shown])
        ]
        rows.append((name, pictures))
    heads = [f"{classes[a]} → {classes[b]}" if a >= 0 else str(classes[b]) for a, b in zip(was, asked, strict=True)]
    return {"heads": heads, "started": started, "rows": rows}


def _legible(found: Mapping[str, Legible]) -> list[tuple[str, Legible]]:
    return list(found.items())


def _only(found: Any, places: Sequence[int]) -> Any:
    def some(x: Tensor) -> Tensor:
        return x[list(places)]

    return replace(
        found,
        x=some(found.x),
        cosine=some(found.cosine),
        distance=some(found.distance),
        snapshots=[(step, some(x)) for step, x in found.snapshots],
    )
