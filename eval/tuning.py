"""``robustclip tune``: settings of a defence, chosen by their adaptive worst case and judged on other images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.files import ConfigError
from configs.load import check_config, plain
from configs.schema import EvaluateConfig, TuneConfig
from configs.scorecard import BARE
from configs.tuning import Candidate, Grid, evaluation_of, grid_of
from data.source import ImageSource
from eval.compare import compare
from eval.evaluate import fingerprint, load_subject, write_evaluation, write_judged, write_run
from eval.framing import framing_of
from eval.harness import Evaluation, evaluate
from eval.plan import Plan, build_plan
from eval.progress import Ticker
from eval.rows import Subject
from eval.tasks.classification import chosen_images
from eval.tuning_choice import choose
from eval.tuning_record import Rung, Tried, Tuning, write_tuning
from eval.tuning_score import costs_of, doubts_about, score_of
from eval.tuning_words import verdict
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIP

Builder = Callable[[EvaluateConfig], Plan]


@dataclass(frozen=True)
class Search:
    """One tuning to be made.

    Attributes:
        config: the recipe.
        build: an evaluation's config -> its plan.
        subject: how the encoder is called.
        state: folder for finished work.
        quiet: show no progress.
    """

    config: TuneConfig
    build: Builder
    subject: Subject
    state: Path | None = None
    quiet: bool = False

    def plan(self, rung: str | None, candidates: Sequence[Candidate]) -> Plan:
        """The plan of a rung, or of the report."""
        return self.build(check_config("evaluate", evaluation_of(plain(self.config), rung, candidates)))

    def run(self, encoder: ImageEncoder, plan: Plan, rung: str | None) -> Evaluation:
        """What an encoder shows in a rung, or in the report; goes on where it was interrupted."""
        state = self.state / ("report" if rung is None else f"rung-{rung}") if self.state else None
        return evaluate(encoder, plan, self.subject, state=state, quiet=self.quiet)


def tune_defense(config: TuneConfig, out: Path, *, command: str = "", quiet: bool = False) -> Tuning:
    """Tune the defence of a recipe and write the record, rows, outcomes and config to ``out``.

    An interrupted tuning goes on where it stopped, and finds the same.

    Args:
        config: the recipe.
        out: folder.
        command: that reproduces it.
        quiet: show no progress.

    Raises:
        ConfigError: an image both chooses and judges.
        ValueError: as ``load_subject``, ``build_plan`` and ``evaluate``.
    """
    clip, metadata = load_subject(config.model)
    check_images(config, clip, quiet=quiet)
    subject = Subject(
        encoder=config.encoder,
        checkpoint=Path(config.model.checkpoint).name if config.model.checkpoint else config.model.name,
        step=int(metadata.get("step", 0)),
        fingerprint=fingerprint(clip.image),
    )
    write_run(out, config, seed=config.seed, command=command, weights=metadata.get("file"))
    search = Search(config, lambda wanted: build_plan(wanted, clip), subject, out / "state", quiet)
    grid = grid_of(plain(config))
    rungs = climb(clip.image, search, grid)
    winner = next(one for one in grid.candidates if one.name == rungs[-1].tried[0].name)
    plan = search.plan(None, [winner])
    found = search.run(clip.image, plan, None)
    write_evaluation(out, found)
    write_judged(out, plan, found, subject)
    tuning = _tuning(clip.image, search, grid, rungs, winner, (plan, found), command)
    write_tuning(out, tuning)
    return tuning


def check_images(config: TuneConfig, clip: CLIP, *, quiet: bool = False) -> None:
    """Refuse images that both choose and judge, whatever they are called.

    Raises:
        ConfigError: naming one.
        ValueError: the images cannot be read.
    """
    tree, framing = plain(config), framing_of(clip.image)
    longest = max(config.rungs, key=lambda name: config.rungs[name].limit or float("inf"))
    choosing, judging = (
        chosen_images(name, task, framing)
        for rung in (longest, None)
        for name, task in check_config("evaluate", evaluation_of(tree, rung, [])).tasks.items()
    )
    with Ticker("comparing images", len(choosing) + len(judging), quiet=quiet) as ticker:
        known = _contents(choosing, ticker)
        twice = sorted(known.keys() & (found := _contents(judging, ticker)).keys())
    if twice:
        raise ConfigError(
            f"{len(twice):,} images both choose and judge, such as {known[twice[0]]!r} ({found[twice[0]]!r} among the "
            "judging ones); name other images with data.tune_shards, data.tune_split or data.ids"
        )


def _contents(source: ImageSource, ticker: Ticker) -> dict[str, str]:
    """For each image's pixels, named by their hash, its key."""
    found = {}
    for i, key in enumerate(source.keys):
        found[hashlib.blake2b(source[i].x.numpy().tobytes(), digest_size=16).hexdigest()] = key
        ticker.advance(1)
    return found


def climb(encoder: ImageEncoder, search: Search, grid: Grid) -> list[Rung]:
    """Every rung, each with the settings that the one before it kept."""
    rungs, left = [], grid.candidates
    costs: dict[str, float] = {}
    for name, rung in search.config.rungs.items():
        plan = search.plan(name, left)
        found = search.run(encoder, plan, name)
        (outcomes,), (rows,) = found.outcomes.values(), found.rows.values()
        costs = costs or costs_of(encoder, plan, left)
        tried = [Tried(c.name, c.settings, score_of(outcomes, rows, c.title), costs[c.name]) for c in left]
        bare = score_of(outcomes, rows, BARE)
        ranked = choose(tried, bare, keep=rung.keep, max_clean_drop=search.config.max_clean_drop)
        rungs.append(Rung(name, list(rung.attacks), bare, ranked))
        kept = [one.name for one in ranked if one.fate == "kept"]
        left = [candidate for candidate in left if candidate.name in kept]
    return rungs


def _tuning(
    encoder: ImageEncoder,
    search: Search,
    grid: Grid,
    rungs: list[Rung],
    winner: Candidate,
    report: tuple[Plan, Evaluation],
    command: str,
) -> Tuning:
    plan, found = report
    config, subject = search.config, search.subject
    (outcomes,), (rows,) = found.outcomes.values(), found.rows.values()
    flags = [
        dict(zip(outcomes.keys, outcomes.robust(rows.attacks(outcomes, name)), strict=True))
        for name in (winner.title, BARE)
    ]
    comparison = compare(*flags)
    judged, bare = (score_of(outcomes, rows, name) for name in (winner.title, BARE))
    doubts = doubts_about(encoder, plan, subject, winner.title, outcomes, rows)
    return Tuning(
        encoder=subject.encoder,
        model=subject.checkpoint,
        defense=winner.node["name"],
        fixed={key: value for key, value in config.defense.items() if key != "name"},
        search=config.search,
        grid=grid.size,
        impossible=grid.impossible,
        dataset=rows.dataset,
        norm=rows.norm,
        eps=rows.eps,
        max_clean_drop=config.max_clean_drop,
        rungs=rungs,
        winner=winner.name,
        line=winner.line,
        bare=bare,
        judged=judged,
        comparison=comparison,
        verdict=verdict(
            comparison,
            rungs,
            judged=judged,
            bare=bare,
            max_clean_drop=config.max_clean_drop,
            doubts=doubts,
        ),
        doubts=doubts,
        qualifier=rows.qualifiers.get(winner.title, ""),
        command=command,
        weights=subject.fingerprint,
        seed=config.seed,
    )
