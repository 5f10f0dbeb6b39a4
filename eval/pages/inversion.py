"""Inversions as pictures on a page: a target, and beneath it what each encoder came to, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from configs.files import write_atomically
from eval.inert import inert
from eval.pages.picture import data_uri
from eval.pages.render import render, style
from eval.pages.words import STAND_IN
from modules.perceptual.inversion import Inversion, Inverting


@dataclass(frozen=True)
class Wanted:
    """What an image was looked for.

    Attributes:
        kind: ``text`` or ``image``.
        name: the text, or the image's file.
        x: [3, H, W] the image.
    """

    kind: str
    name: str
    x: Tensor | None = None


def blocks_of(wanted: Sequence[Wanted], seen: Sequence[tuple[str, Inversion]]) -> list[dict[str, Any]]:
    """What the template shows of each target: a row of pictures for each encoder.

    Args:
        wanted: B targets.
        seen: names of encoders, and the inversions of all targets.
    """
    return [
        {
            "name": target.name,
            "kind": target.kind,
            "heads": [*(["target"] if target.x is not None else []), *(f"{s} steps" for s, _ in seen[0][1].snapshots)],
            "rows": [_row(name, found, number, target) for name, found in seen],
        }
        for number, target in enumerate(wanted)
    ]


def _row(name: str, found: Inversion, number: int, target: Wanted) -> dict[str, Any]:
    pictures = [data_uri(x[number].float().cpu().numpy()) for _, x in found.snapshots]
    if target.x is not None:
        pictures = [data_uri(target.x.float().cpu().numpy()), *pictures]
    return {
        "encoder": name,
        "pictures": pictures,
        "cosine": float(found.cosine[number]),
        "distance": float(found.distance[number]),
    }


def how_told(how: Inverting, start: str, seed: int) -> str:
    """One sentence about a search."""
    ball = "anywhere in the box of pixels" if how.radius is None else f"at most {how.radius:g} away (Euclidean)"
    stride = "Auto-PGD" if how.step_size is None else "gradient ascent in steps that shrink"
    looks = f"{how.looks} looks a step, moved by up to {how.shift} pixels, with noise of {how.spread:g}"
    extra = f", total variation times {how.variation:g} taken off" if how.variation else ""
    return (
        f"From {start}, {ball}: {how.steps} steps of {stride}, {looks}{extra}. Seed {seed}: every encoder has the same "
        "start and the same looks. A cosine is that of the finished image, neither moved nor noisy."
    )


def build_gallery(
    folder: Path, wanted: Sequence[Wanted], seen: Sequence[tuple[str, Inversion]], facts: dict[str, Any], told: str
) -> Path:
    """The path of ``folder/index.html``, self-contained, written whole.

    Args:
        folder: where it goes.
        wanted: targets.
        seen: names of encoders and their inversions.
        facts: what else there is to say, by name; ``command`` and ``stand_in`` have places of their own.
        told: the search in a sentence.
    """
    shown = {name: value for name, value in facts.items() if name not in ("command", "stand_in")}
    page = render(
        "gallery.html.j2",
        title="Inversion: " + ", ".join(inert(target.name) for target in wanted),
        style=style("style.css", "inversion.css"),
        encoders=inert([name for name, _ in seen]),
        blocks=inert(blocks_of(wanted, seen)),
        told=told,
        stand_in=STAND_IN if facts.get("stand_in") else "",
        facts=[(inert(name), inert(str(value))) for name, value in shown.items()],
        command=inert(str(facts.get("command", ""))),
    )
    write_atomically(folder / "index.html", page)
    return folder / "index.html"
