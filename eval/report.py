"""One self-contained page about one or more runs: what was claimed, attacked, and left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from eval import plots, score_words
from eval.card import FILE, read_card
from eval.detectors import without_detection
from eval.inert import inert
from eval.measured import measured
from eval.pages import words
from eval.pages.detection import detection_section
from eval.pages.looks import looks_section
from eval.pages.pictures import sheets_of
from eval.pages.prior import prior_sections
from eval.pages.protocol import protocol_sections
from eval.pages.render import render, style, trusted
from eval.pages.runs import Run, merged, read_runs
from eval.pages.speed import speed_sections
from eval.pages.training import training_section
from eval.pages.traps import trap_sections
from eval.results import Result, write_csv
from eval.tables import (
    CLEAN,
    NO_ATTACK,
    ROBUST,
    HeadlineRow,
    Threat,
    attacks_on,
    final_steps,
    headline,
    main_threats,
    plain,
    radius,
    threat_name,
    view_grid,
)


def build_report(runs: Sequence[Path], out: Path) -> Path:
    """The path of ``out/index.html``, written whole together with ``out/results.csv``.

    The same run folders give the same bytes.

    Args:
        runs: run folders with results.jsonl (or a prior's prior.json, or a training's metrics.csv, or
            bench.json or traps.json), config.yaml and env.json; other files are optional.
        out: folder of the report.

    Raises:
        ConfigError: a run folder lacks a file, or a file is invalid.
    """
    found = [_marked(run) for run in read_runs(runs)]
    rows = merged(found)
    if not any(r.metric in (CLEAN, ROBUST) for r in rows) and not all(map(_without_rows, found)):
        raise ConfigError("no accuracy among the rows; run an evaluation first")
    page = render("report.html.j2", **_context(found, rows))
    if rows:
        write_csv(out / "results.csv", rows)
    write_atomically(out / "index.html", page)
    return out / "index.html"


def _without_rows(run: Run) -> bool:
    """Whether a run has something to show beside rows."""
    return bool(run.prior or run.protocol or run.speed or run.traps or run.curves and not run.rows)


def rows_of(runs: Sequence[Path]) -> list[Result]:
    """The rows of some run folders, each number once, those that a scorecard forbids to believe labelled.

    Raises:
        ConfigError: as ``build_report``.
    """
    return merged([_marked(run) for run in read_runs(runs)])


def _marked(run: Run) -> Run:
    """The run, with the rows that its scorecard forbids to believe labelled like artefacts."""
    if not (run.folder / FILE).is_file():
        return run
    card = inert(read_card(run.folder))
    red = [doubt.name for doubt in card.doubts if doubt.severity == "red"]
    names, label = (card.encoder, f"{card.encoder} ({run.label})"), f"red doubt ({', '.join(red)})"

    def meant(row: Result) -> bool:
        mine = row.encoder in names and (row.defense, row.dataset) == (card.defense, card.dataset)
        return bool(red) and mine and row.metric != CLEAN and not row.artefact

    return replace(run, rows=[replace(row, artefact=label) if meant(row) else row for row in run.rows])


def _context(runs: Sequence[Run], rows: Sequence[Result]) -> dict[str, Any]:
    found, chosen = headline(rows), main_threats(rows)
    threats = list(dict.fromkeys(r.threat for r in found))
    shown = [*chosen, *(t for t in threats if t[2] == NO_ATTACK)]
    groups = [_group(t, found, rows, f"g{i}") for i, t in enumerate(shown)]
    training, radii, told = _training(rows, chosen), _radii(rows, chosen), training_section(runs)
    sheets = [sheet for run in runs for sheet in sheets_of(run.folder, run.examples)]
    notes, detection, looks = _notes(runs), detection_section(runs, rows), looks_section([run.folder for run in runs])
    beside = measured(rows)
    speed = speed_sections([(run.label, run.speed) for run in runs if run.speed])
    traps = trap_sections([(run.label, run.traps) for run in runs if run.traps])
    cards, priors, protocols = _cards(runs), prior_sections(runs), protocol_sections(runs)
    contents = [
        ("scorecard", "Scorecard", cards),
        ("headline", "What is left", groups),
        ("views", "What the attacker followed", chosen),
        ("words", "In words", chosen),
        ("measured", "Beside accuracy", beside),
        ("protocols", "Protocols", protocols),
        ("priors", "Priors", priors),
        ("detection", "Detection", detection),
        ("training", "Over training", training or told),
        ("radius", "Over the radius", radii),
        ("pictures", "Pictures", sheets),
        ("looks", "Looked into", looks),
        ("speed", "Speed", speed),
        ("traps", "Traps", traps),
        ("notes", "Notes", notes),
        ("run", "What was run", True),
    ]
    return {
        "kind": "Robustness report" if groups else "Report",
        "title": ", ".join(run.label for run in runs),
        "style": style("style.css", *(["inversion.css"] if looks else [])),
        "stand_in": words.STAND_IN if _stand_in(rows, priors) else "",
        "contents": [(anchor, text) for anchor, text, there in contents if there],
        "cards": cards,
        "priors": priors,
        "protocols": protocols,
        "groups": groups,
        "attacked": [group for group, threat in zip(groups, shown, strict=True) if threat[2] != NO_ATTACK],
        "others": [_table(t, found) for t in threats if t not in shown],
        "beside": [(at, [m for m in beside if m.where == at]) for at in dict.fromkeys(m.where for m in beside)],
        "detection": detection,
        "training": training,
        "told": told,
        "radii": radii,
        "sheets": sheets,
        "looks": looks,
        "speed": speed,
        "traps": traps,
        "notes": notes,
        "runs": [_facts(run) for run in runs],
        "rest": [r for r in without_detection(rows) if r.metric not in (CLEAN, ROBUST)],
    }


def _stand_in(rows: Sequence[Result], priors: Sequence[dict[str, Any]]) -> bool:
    return any(re.match("digits?(-|$)", r.dataset) for r in rows) or any(prior["stand_in"] for prior in priors)


def _table(threat: Threat, found: Sequence[HeadlineRow]) -> dict[str, Any]:
    mine = [r for r in found if r.threat == threat]
    counts = {c.n for r in mine for c in (r.clean, r.transfer, r.adaptive, r.worst) if c}
    images = " to ".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))
    task, dataset, norm, eps = threat
    return {
        "name": f"{task} · {dataset} · {threat_name(norm, eps)} · {images} images",
        "rows": mine,
    }


def _group(threat: Threat, found: Sequence[HeadlineRow], rows: Sequence[Result], name: str) -> dict[str, Any]:
    table = _table(threat, found)
    mine: list[HeadlineRow] = table["rows"]
    grids = [(row, *view_grid(attacks_on(rows, row))) for row in mine]
    sentences = [(r.name, words.defence_in_words(r, rows)) for r in mine if r.defense != "none" and r.norm != NO_ATTACK]
    return {
        **table,
        "verdicts": words.verdicts(mine),
        "forest": trusted(plots.forest(mine, f"{name}-forest")) if threat[2] != NO_ATTACK else "",
        "grids": [g for g in grids if g[1]],
        "words": sentences,
    }


def _cards(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The scorecards that lie in the run folders, in brief."""
    cards = [inert(read_card(run.folder)) for run in runs if (run.folder / FILE).is_file()]
    return [
        {
            "name": score_words.name_of(card),
            "where": f"{card.dataset} · {score_words.threat_of(card)} · {card.budget} budget",
            "headline": card.headline,
            "believable": card.believable,
            "reasons": score_words.reasons(card) or [doubt.text for doubt in card.doubts],
            "words": " ".join(filter(None, (score_words.tried(card), score_words.beside(card)))),
        }
        for card in cards
    ]


def _training(rows: Sequence[Result], chosen: Sequence[Threat]) -> list[tuple[Any, str]]:
    found = [
        (plots.over_steps(rows, t, f"t{i}-steps"), f"{t[1]} · {threat_name(*t[2:])}") for i, t in enumerate(chosen)
    ]
    return [(trusted(svg), text) for svg, text in found if svg]


def _radii(rows: Sequence[Result], chosen: Sequence[Threat]) -> list[tuple[Any, str]]:
    steps = final_steps(rows)
    found = [
        (plots.over_eps(rows, t, steps, f"e{i}-eps"), f"{t[1]} · {threat_name(*t[2:]).split()[0]}")
        for i, t in enumerate(chosen)
    ]
    return [(trusted(svg), text) for svg, text in found if svg]


def _notes(runs: Sequence[Run]) -> list[dict[str, Any]]:
    notes = []
    for note in (n for run in runs for n in run.notes):
        shape = note.get("histogram")
        svg, caption = "", ""
        if shape:
            svg = trusted(plots.histogram(shape, f"h{len(notes)}"))
            auc = shape.get("auc")
            area = f" · area under the ROC curve {auc:.3f}" if auc is not None else ""
            caption = plain(shape.get("title", "")) + area
        notes.append({"title": note["title"], "text": note["text"], "svg": svg, "caption": caption})
    return notes


def _facts(run: Run) -> dict[str, Any]:
    environment = run.environment
    facts = [("seed", environment["seed"]), ("started", environment["started"])]
    if environment["seconds"] is not None:
        facts.append(("took", f"{environment['seconds']:,.1f} s"))
    facts += [(f"… {name}", f"{seconds:,.1f} s") for name, seconds in environment["phases"].items()]
    facts += [(name, version) for name, version in environment["versions"].items()]
    radii = sorted({r.eps for r in run.rows if r.eps})
    facts.append(("radii", ", ".join(radius(eps) for eps in radii)))
    shown = [(plain(name), plain(value)) for name, value in facts if value != ""]
    return {
        "label": run.label,
        "command": plain(environment["command"]),
        "facts": shown,
        "config": run.config,
    }
