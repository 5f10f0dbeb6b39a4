"""The headline table: per encoder and defence what is left, clean to worst case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from eval.plain_text import plain as plain
from eval.results import WORST, Result
from modules.views import is_view, order_of

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

CLEAN, ROBUST = "clean_accuracy", "robust_accuracy"

T = TypeVar("T")
Threat = tuple[str, str, str, float]  # task, dataset, norm, eps
NO_ATTACK = "none"  # norm of clean rows


def percent(value: float) -> str:
    """``71.3``: a fraction in percent with one decimal."""
    return f"{100 * value:.1f}"


def points(gap: float | None) -> str:
    """``+37.7`` or ``−7.0``: a difference of fractions in points; a dash where there is none."""
    return "–" if gap is None else f"{100 * gap:+.1f}".replace("-", "−")


def radius(eps: float) -> str:
    """``4/255`` where eps is a whole number of grey levels, else three digits."""
    whole = round(eps * 255)
    return f"{whole}/255" if whole and abs(eps * 255 - whole) < 1e-3 else f"{eps:.3g}"


def threat_name(norm: str, eps: float) -> str:
    """``ℓ∞ 4/255``: a threat as people write it."""
    if norm == NO_ATTACK:
        return "no attack"
    return f"{ {'linf': 'ℓ∞', 'l2': 'ℓ2'}.get(norm, norm) } {radius(eps)}"


@dataclass(frozen=True)
class HeadlineRow:
    """What is left of one encoder with one defence inside one threat, at its last step.

    Attributes:
        task: e.g. ``classification``.
        dataset: e.g. ``digits``.
        norm: of the threat.
        eps: radius of the threat in [0, 1] pixels.
        encoder: display name.
        defense: name, ``none`` for the bare encoder.
        step: training step the numbers belong to.
        clean: accuracy without an attack.
        transfer: the lowest number against the encoder below the defence; None for ``none``.
        adaptive: the lowest number of the views that look through the defence.
        worst: the per-sample worst case over every attack and view tried.
    """

    task: str
    dataset: str
    norm: str
    eps: float
    encoder: str
    defense: str
    step: int
    clean: Result | None
    transfer: Result | None
    adaptive: Result | None
    worst: Result | None

    @property
    def threat(self) -> Threat:
        """Rows with an equal threat belong into one table."""
        return self.task, self.dataset, self.norm, self.eps

    @property
    def name(self) -> str:
        """``CLIP`` or ``CLIP + ttc``."""
        return self.encoder if self.defense == "none" else f"{self.encoder} + {self.defense}"

    @property
    def gap(self) -> float | None:
        """Transfer minus worst case: what looking away from the defence hides, as a fraction."""
        if self.transfer is None or self.worst is None:
            return None
        return self.transfer.value - self.worst.value

    @property
    def caution(self) -> str:
        """Why the worst case must not be shown as robustness; empty if it may."""
        if self.worst and self.worst.artefact:
            return f"artefact: {self.worst.artefact}"
        if self.worst and self.defense != "none" and self.adaptive is None:
            return "no adaptive attack"
        if self.worst and self.clean and self.worst.value > self.clean.value:
            return "above clean"
        single = [r for r in (self.transfer, self.adaptive) if r and self.worst]
        if any(r.n == self.worst.n and r.value < self.worst.value for r in single if self.worst):
            return "above a single attack"
        return ""


def headline(rows: Sequence[Result]) -> list[HeadlineRow]:
    """The headline numbers of every threat, at the last step of each encoder."""
    steps = final_steps(rows)
    last = [r for r in rows if r.step == steps[r.task, r.dataset, r.encoder]]
    threats = _unique((r.task, r.dataset, r.norm, r.eps) for r in last if r.metric == ROBUST)
    found = []
    for task, dataset, norm, eps in sorted(threats, key=lambda t: t[3]):
        here = [r for r in last if (r.task, r.dataset) == (task, dataset)]
        inside = [r for r in here if r.metric == ROBUST and (r.norm, r.eps) == (norm, eps)]
        for encoder, defense in _systems(inside):
            mine = [r for r in inside if (r.encoder, r.defense) == (encoder, defense)]
            clean = [r for r in here if (r.encoder, r.defense) == (encoder, defense)]
            found.append(
                HeadlineRow(
                    *(task, dataset, norm, eps, encoder, defense, mine[0].step),
                    clean=lowest(clean, lambda r: r.metric == CLEAN),
                    transfer=lowest(mine, lambda r: r.defense != "none" and is_view(r.view, "past")),
                    adaptive=lowest(mine, lambda r: is_view(r.view, "through")),
                    worst=lowest(mine, lambda r: r.attack == WORST),
                )
            )
    return [*found, *_clean_only(last)]


def _clean_only(rows: Sequence[Result]) -> list[HeadlineRow]:
    """Rows of the encoders that were evaluated on clean images alone."""
    attacked = {(r.task, r.dataset, r.encoder) for r in rows if r.metric == ROBUST}
    clean = [r for r in rows if r.metric == CLEAN and (r.task, r.dataset, r.encoder) not in attacked]
    found = []
    for task, dataset in _unique((r.task, r.dataset) for r in clean):
        here = [r for r in clean if (r.task, r.dataset) == (task, dataset)]
        for encoder, defense in _systems(here):
            mine = next(r for r in here if (r.encoder, r.defense) == (encoder, defense))
            place = (task, dataset, NO_ATTACK, 0.0, encoder, defense, mine.step)
            found.append(HeadlineRow(*place, clean=mine, transfer=None, adaptive=None, worst=None))
    return found


def final_steps(rows: Iterable[Result]) -> dict[tuple[str, str, str], int]:
    """The largest step of each (task, dataset, encoder)."""
    steps: dict[tuple[str, str, str], int] = {}
    for row in rows:
        key = row.task, row.dataset, row.encoder
        steps[key] = max(row.step, steps.get(key, row.step))
    return steps


def main_threats(rows: Iterable[Result]) -> list[Threat]:
    """One threat per task, dataset and norm: of the most thoroughly tried radii the middle one."""
    sizes: dict[tuple[str, str, str], dict[float, int]] = {}
    for row in rows:
        if row.metric == ROBUST:
            radii = sizes.setdefault((row.task, row.dataset, row.norm), {})
            radii[row.eps] = radii.get(row.eps, 0) + 1
    chosen = []
    for key, radii in sizes.items():
        fullest = sorted(eps for eps, size in radii.items() if size == max(radii.values()))
        chosen.append((*key, fullest[len(fullest) // 2]))
    return chosen


def attacks_on(rows: Iterable[Result], row: HeadlineRow) -> list[Result]:
    """The single attacks behind a headline row: all views, without the worst case."""
    return [
        r
        for r in rows
        if (r.task, r.dataset, r.norm, r.eps) == row.threat
        and (r.encoder, r.defense, r.step) == (row.encoder, row.defense, row.step)
        and r.metric == ROBUST
        and r.attack != WORST
    ]


def view_grid(rows: Sequence[Result]) -> tuple[list[str], list[tuple[str, list[Result | None]]]]:
    """Attack names, and one line of numbers per view: ``(view, [result per attack])``."""
    attacks = _unique(r.attack for r in rows)
    views = sorted(_unique(r.view for r in rows), key=order_of)
    return attacks, [
        (view, [lowest(rows, lambda r, a=a, v=view: (r.attack, r.view) == (a, v)) for a in attacks]) for view in views
    ]


def lowest(rows: Iterable[Result], keep: Callable[[Result], bool] = lambda _: True) -> Result | None:
    """The row with the smallest value among those kept; None where there is none."""
    return min((r for r in rows if keep(r)), key=lambda r: r.value, default=None)


def terminal_table(rows: Sequence[Result]) -> Table:
    """The headline table for the terminal; names are inert, artefacts are tagged and never bold."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title, look = "accuracy in %, 95 % interval", box.SIMPLE_HEAD
    table = Table(title=title, box=look, pad_edge=False, collapse_padding=True)
    table.add_column("encoder", overflow="fold")
    table.add_column("defence", overflow="fold")
    for name in ("clean", "transfer", "adaptive", "worst", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    found = headline(rows)
    judged = {r.threat for r in found if r.worst or r.norm == NO_ATTACK} or {r.threat for r in found}
    previous = None
    for row in (r for r in found if r.threat in judged):
        if previous is None or previous.threat != row.threat:
            where = plain(f"{row.dataset}, {threat_name(row.norm, row.eps)}")
            table.add_section()
            table.add_row(Text(where, style="italic"))
            previous = None
        again = previous is not None and previous.encoder == row.encoder
        defence = Text(plain(row.defense))
        if row.caution:
            defence.append(f"\n! {plain(row.caution)}", style="magenta")
        table.add_row(
            Text("" if again else plain(row.encoder)),
            defence,
            *(_cell(r) for r in (row.clean, row.transfer, row.adaptive)),
            _cell(row.worst, bold=not row.caution),
            Text(points(row.gap)),
        )
        previous = row
    said = _unique(f"! {r.dataset}: {r.qualifier}" for r in rows if r.qualifier)
    table.caption = Text("\n".join(map(plain, said)), style="magenta") if said else None
    return table


def _cell(result: Result | None, *, bold: bool = False) -> Text:
    from rich.text import Text

    if result is None:
        return Text("–")
    text = Text().append(percent(result.value), style="bold" if bold else "")
    text.append(" !" if result.artefact else "", style="magenta")
    return text.append(f"\n{percent(result.low)}–{percent(result.high)}", style="dim")


def _systems(rows: Iterable[Result]) -> list[tuple[str, str]]:
    pairs = _unique((r.encoder, r.defense) for r in rows)
    encoders = _unique(e for e, _ in pairs)
    return sorted(pairs, key=lambda p: (encoders.index(p[0]), p[1] != "none"))


def _unique(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
