"""``robustclip scorecard``: everything that is known about one number, and every reason to doubt it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from configs.load import check_config, config_hash, plain
from configs.schema import EvaluateConfig, ScorecardConfig
from configs.scorecard import BARE, evaluation_of
from data.batches import ImageBatch
from data.images import choose_images
from eval.answers import SCORE_DRAW
from eval.card import Bracket, Card, Share, ViewNumber, write_card
from eval.certificates import bracket_of
from eval.checks import asked_before, number_doubts, probe_doubts
from eval.cost import cost_of, gradient_ratio
from eval.evaluate import fingerprint, load_subject, write_evaluation, write_judged, write_run
from eval.harness import Evaluation, evaluate
from eval.health import measure
from eval.judge import Judge
from eval.outcomes import Outcomes
from eval.plan import Plan, build_plan
from eval.pressing import press_on
from eval.rows import Rows, Subject
from eval.strength import curves
from eval.tasks.classification import ClassificationTask
from modules.defenses.base import Defense, View
from modules.encoders.base import ImageEncoder, frozen
from modules.encoders.clip import CLIP


@dataclass(frozen=True)
class Scoring:
    """One scorecard to be made.

    Attributes:
        config: the recipe.
        plan: its evaluation, built.
        subject: how the encoder is called.
        budget: name of the recipe.
        command: that reproduces it.
        state: folder for finished work.
        quiet: show no progress.
    """

    config: ScorecardConfig
    plan: Plan
    subject: Subject
    budget: str = "custom"
    command: str = ""
    state: Path | None = None
    quiet: bool = False

    @property
    def name(self) -> str:
        """The defence that is judged."""
        return list(self.plan.config.defenses)[-1]

    @property
    def dataset(self) -> str:
        """The data set."""
        return self.plan.tasks[0].dataset


def evaluation_config(config: ScorecardConfig) -> EvaluateConfig:
    """The checked evaluation behind a scorecard.

    Raises:
        ConfigError: its faults.
    """
    return check_config("evaluate", evaluation_of(plain(config)))


def scoring_plan(config: ScorecardConfig, clip: CLIP) -> tuple[ScorecardConfig, Plan]:
    """The plan of a scorecard, and its config with as many images as the defence's price allows.

    Every defence is built, and calibrated, once for all parts of the scorecard.

    Raises:
        ConfigError, ValueError: as ``build_plan``.
    """
    return sized(config, shared(build_plan(evaluation_config(config), clip)), clip.image)


def sized(config: ScorecardConfig, plan: Plan, encoder: ImageEncoder) -> tuple[ScorecardConfig, Plan]:
    """Config and plan with as many images as the price of the defence's gradient allows."""
    name, task = list(plan.config.defenses)[-1], ClassificationTask.of(plan.tasks[0])
    if not config.fewer:
        return config, plan
    batch = next(task.whole_batches(4)).to(plan.device)
    task.head.to(batch.x.device)
    with frozen(encoder):
        ratio = gradient_ratio(plan.defend(name, encoder, task), _classify(task.head), batch.x)
    images = min(len(task), max(config.fewer, round(len(task) / max(ratio, 1.0))))
    if images == len(task):
        return config, plan
    limit = max(min(16, config.strength.limit), round(config.strength.limit * images / len(task)))
    config = replace(config, strength=replace(config.strength, limit=limit))
    few = choose_images(task.source, images, shuffle=plan.config.stop_width > 0)
    return config, replace(plan, tasks=[replace(task, source=few)], hash=config_hash([plan.hash, images]))


def shared(plan: Plan) -> Plan:
    """The plan, whose defences are built once and then handed out again."""
    made: dict[tuple[str, int], Defense] = {}

    def defend(name: str, encoder: ImageEncoder, task: Any) -> Defense:
        key = name, id(encoder)
        if key not in made:
            made[key] = plan.defend(name, encoder, task)
        return made[key]

    return replace(plan, defend=defend)


def make_card(encoder: ImageEncoder, scoring: Scoring) -> tuple[Card, Evaluation]:
    """The scorecard of an encoder, and the evaluation behind it.

    Args:
        encoder: in the embedding space of the plan's heads.
        scoring: what to do.

    Raises:
        ConfigError: the state belongs to another evaluation or is damaged.
        ValueError: a defence failed or returned nonsense.
    """
    encoder = scoring.plan.tasks[0].around(encoder)  # once, so that defences are not built again for each part
    plan, subject, task = scoring.plan, scoring.subject, ClassificationTask.of(scoring.plan.tasks[0])
    with frozen(encoder):
        judge = Judge(encoder, plan, task, subject)
        batch = next(task.whole_batches(scoring.config.probes)).to(judge.device)
        before = asked_before(judge, scoring.name, batch)
    found = evaluate(encoder, plan, subject, state=_part(scoring, "main"), quiet=scoring.quiet)
    outcomes, rows = found.outcomes[scoring.dataset], found.rows[scoring.dataset]
    more = {"state": _part(scoring, "more"), "quiet": scoring.quiet}
    if said := press_on(encoder, plan, subject, scoring.name, outcomes, rows, **more):
        found.notes, found.results = found.notes + said, rows.of(outcomes)
    card = _numbers(scoring, outcomes, rows)
    with frozen(encoder):
        card = _examined(judge, scoring, card, outcomes, rows, batch, before)
    notes = [{"title": note["title"], "text": note["text"]} for note in found.notes]
    said = {note for notes_of in outcomes.notes.values() for note in notes_of}
    notes += [{"title": "An attack did otherwise than told", "text": note} for note in sorted(said)]
    return replace(card, notes=notes), found


def _part(scoring: Scoring, name: str) -> Path | None:
    return scoring.state / name if scoring.state else None


def _numbers(scoring: Scoring, outcomes: Outcomes, rows: Rows) -> Card:
    """The card with what the outcomes alone say."""
    name, config = scoring.name, scoring.config
    attacked = rows.attacks(outcomes, name)
    results = {(row.defense, row.attack, row.metric): row for row in rows.of(outcomes)}

    def share(defense: str, attack: str, metric: str) -> Share | None:
        row = results.get((defense, attack, metric))
        return row and Share(row.value, row.low, row.high, row.n)

    headline, clean = share(name, "worst", "robust_accuracy"), share(name, "none", "clean_accuracy")
    assert headline and clean, "an evaluation without numbers"
    static = {"clean": share(BARE, "none", "clean_accuracy"), "worst": share(BARE, "worst", "robust_accuracy")}
    return Card(
        encoder=scoring.subject.encoder,
        model=scoring.subject.checkpoint,
        defense=name,
        settings={key: value for key, value in config.defense.items() if key != "name"},
        dataset=scoring.dataset,
        norm=rows.norm,
        eps=rows.eps,
        budget=scoring.budget,
        cascade=config.cascade,
        headline=headline,
        clean=clean,
        views=[_view(view, outcomes, rows, name) for view in dict.fromkeys(cell.view for cell in attacked)],
        static={key: value for key, value in static.items() if value} if name != BARE else {},
        mean_draw=share(name, "worst", "robust_accuracy_mean"),
        majority=share(name, "worst", "robust_accuracy_majority"),
        artefact=rows.artefacts.get(name, ""),
        command=scoring.command,
        config=rows.config,
        weights=scoring.subject.fingerprint,
        seed=rows.seed,
    )


def _view(view: str, outcomes: Outcomes, rows: Rows, name: str) -> ViewNumber:
    cells = [cell for cell in rows.attacks(outcomes, name) if cell.view == view]
    flags = outcomes.robust(cells)
    low, high = rows.interval(sum(flags), len(flags))
    each = {cell.attack: sum(outcomes.robust([cell])) / len(flags) for cell in cells}
    return ViewNumber(view, Share(sum(flags) / len(flags), low, high, len(flags)), each)


def _examined(
    judge: Judge, scoring: Scoring, card: Card, outcomes: Outcomes, rows: Rows, batch: ImageBatch, before: Tensor
) -> Card:
    """The card with curves, gradients, cost, certificate, and the doubts that follow from them."""
    name, plan, task = scoring.name, scoring.plan, ClassificationTask.of(scoring.plan.tasks[0])
    defense = judge.defenses[name]
    several = next(task.whole_batches(plan.config.batch_size)).to(judge.device)
    with judge.named(several, SCORE_DRAW):
        cost = cost_of(defense, _classify(task.head), several.x)
    lines = curves(
        judge.encoder,
        plan,
        scoring.subject,
        name,
        strongest_view(card, defense),
        scoring.config.strength,
        state=_part(scoring, "curves"),
        quiet=scoring.quiet,
    )
    bracket: Bracket | None = bracket_of(judge, name, scoring.config.certify, outcomes, rows)
    health = measure(judge, name, batch)
    unchecked: list[str] = []
    doubts = probe_doubts(judge, name, batch, health, before=before, unchecked=unchecked)
    doubts += number_doubts(outcomes, rows, name, lines, bracket, unchecked)
    doubts = list({doubt.name: doubt for doubt in sorted(doubts, key=lambda d: d.severity == "red")}.values())
    doubts.sort(key=lambda doubt: doubt.severity != "red")
    return replace(card, cost=cost, curves=lines, bracket=bracket, health=health, doubts=doubts, unchecked=unchecked)


def _classify(head: Callable[[Tensor], Tensor]) -> Callable[[ImageEncoder, Tensor], Tensor]:
    return lambda encoder, x: encoder.logits(x, head)


def strongest_view(card: Card, defense: Defense) -> View:
    """The view through the defence that left least; of equal ones the one that needs least explanation."""
    left = {number.view: number.share.value for number in card.views}
    tried = [view for view in View if view.through and view in left]
    if not tried:
        return View.eot if defense.random else View.adaptive
    return min(tried, key=lambda view: (left[view], not view.exact))


def judge_model(config: ScorecardConfig, out: Path, *, budget: str, command: str = "") -> Card:
    """Make the scorecard of a recipe's model and write card, rows, outcomes, config and examples to ``out``.

    An interrupted scorecard goes on where it stopped.

    Args:
        config: the recipe.
        out: folder.
        budget: name of the recipe.
        command: that reproduces it.

    Raises:
        ValueError: as ``load_subject``, ``build_plan`` and ``make_card``.
    """
    clip, metadata = load_subject(config.model)
    write_run(out, config, seed=config.seed, command=command, weights=metadata.get("file"))
    config, plan = scoring_plan(config, clip)
    subject = Subject(
        encoder=config.encoder,
        checkpoint=Path(config.model.checkpoint).name if config.model.checkpoint else config.model.name,
        step=int(metadata.get("step", 0)),
        fingerprint=fingerprint(clip.image),
    )
    scoring = Scoring(config, plan, subject, budget=budget, command=command, state=out / "state")
    card, found = make_card(clip.image, scoring)
    write_evaluation(out, found)
    write_judged(out, plan, found, subject)
    write_card(out, card)
    return card
