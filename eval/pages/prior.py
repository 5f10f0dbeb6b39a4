"""The part of a report that is about priors: whether they are healthy, how they came to it, and what they were fed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.pages.render import trusted
from eval.pages.runs import Run
from eval.prior_health import LOSS, PUBLISHED, in_short, in_words
from eval.prior_plots import prior_figures
from eval.prior_record import PriorRecord
from eval.tables import plain


def prior_sections(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the template needs to know of every run that trained a prior."""
    found = []
    for run in runs:
        if run.prior is None:
            continue
        figures = prior_figures(run.prior, f"p{len(found)}")
        found.append(
            {
                "label": run.label,
                "stand_in": _stand_in(run.prior),
                "short": in_short(run.prior.last("val/"), run.prior.measures),
                "words": [*_course(run.prior), *in_words(run.prior.last("val/"), run.prior.measures)],
                "published": PUBLISHED,
                "figures": [(trusted(svg), caption) for svg, caption in figures],
                "rows": _rows(run.prior),
                "facts": [(name, plain(str(value))) for name, value in _facts(run.prior)],
            }
        )
    return found


def _stand_in(record: PriorRecord) -> bool:
    """Whether the prior learned handwritten digits."""
    data = record.facts.get("data", {})
    return "digits" in (data.get("shards"), data.get("of"))


def _course(record: PriorRecord) -> list[str]:
    """How far the training has come, and what it did to the loss."""
    said, wanted = [], record.facts.get("steps", 0)
    if record.step < wanted:
        said.append(f"The training is not finished: {record.step:,} of {wanted:,} steps.")
    losses = record.curves.get(LOSS.name, [])
    if len(losses) > 1:
        start = "the prior it started from" if record.facts.get("init") else "an untrained prior"
        (_, first), (_, last) = losses[0], losses[-1]
        verb = "fell" if last < first else "rose"
        said.append(f"The loss on held-out pairs {verb} from {first:.3f} ({start}) to {last:.3f}.")
    return said


def _rows(record: PriorRecord) -> list[tuple[str, str, str, str]]:
    """(measure, value, healthy range, verdict) of the last validation."""
    values = record.last("val/")
    return [
        (measure.label, measure.shown(values[measure.name]), measure.healthy, measure.verdict(values[measure.name]))
        for measure in record.measures
        if measure.name in values
    ]


def _facts(record: PriorRecord) -> list[tuple[str, Any]]:
    facts, data = record.facts, record.facts.get("data", {})
    base = facts.get("base") or {}
    likelihood = facts.get("likelihood") or {}
    held_out = f"{data.get('held_out', 0):,}" + (f" of {data['validation']}" if data.get("validation") else "")
    said = [
        ("encoder", f"{base.get('name', '')} {base.get('pretrained', '')}".strip()),
        ("checkpoint", facts.get("checkpoint") or ""),
        ("fingerprint", facts.get("encoder") or "unknown"),
        ("data", data.get("shards", "")),
        ("made from", data.get("of") or ""),
        ("pairs", f"{data.get('pairs', 0):,}"),
        ("held out", held_out),
        ("computed while training", ", ".join(data.get("computed", [])) or "nothing"),
        ("condition", "text embedding" + (" and token states" if data.get("tokens") else "")),
        ("embedding", f"{facts.get('dim')} numbers"),
        ("parameters", f"{facts.get('parameters', 0):,}"),
        (
            "diffusion",
            f"{facts.get('timesteps')} timesteps, predicts {facts.get('prediction')}, {facts.get('loss')} loss",
        ),
        ("started from", facts.get("init") or ""),
        ("samples seen", f"{facts.get('samples_seen', 0):,} in {facts.get('steps', 0):,} steps"),
    ]
    if likelihood:
        mean, std, n = (likelihood.get(key, 0) for key in ("mean", "std", "n"))
        said.append(("log-likelihood", f"{mean:.3f} on average (spread {std:.3f}, {n:,} embeddings, no text)"))
    return [(name, value) for name, value in said if value != ""]
