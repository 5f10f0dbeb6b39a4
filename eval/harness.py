"""``evaluate``: task x dataset x defence x attack x view, the same in the training loop and offline."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from configs.files import ConfigError
from data.batches import ImageBatch
from eval.examples import Example
from eval.judge import Judge
from eval.looks import Look, look
from eval.outcomes import Outcomes, read_outcomes, write_outcomes
from eval.plan import Plan
from eval.progress import Ticker
from eval.results import Result
from eval.rows import Rows, Subject, widest
from eval.team import Team, Unfinished
from modules.encoders.base import ImageEncoder, frozen

log = logging.getLogger(__name__)

SAVE_EVERY = 1.0  # seconds between two writes of unfinished work


@dataclass
class Evaluation:
    """What an evaluation found.

    Attributes:
        results: one row per number.
        outcomes: per data set, which images were right.
        rows: per data set, the writer of its rows.
        examples: images to show.
        notes: what a defence calibrated and where an evaluation stopped early, for the report.
        looks: what the encoder was seen to take for some names.
    """

    results: list[Result] = field(default_factory=list)
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)


def evaluate(
    encoder: ImageEncoder,
    plan: Plan,
    subject: Subject,
    *,
    state: Path | None = None,
    quiet: bool = False,
    team: Team | None = None,
) -> Evaluation:
    """Judge an encoder.

    Every number depends on the encoder, the plan and nothing else: not on the batch size, the order, any global
    generator, or on how many processes share the batches.  The encoder's mode and gradient flags are as before
    afterwards.

    Args:
        encoder: in the embedding space of the plan's heads.
        plan: what to do.
        subject: how the encoder is called in the rows.
        state: folder for finished work; an interrupted evaluation goes on from there, with any number of processes.
        quiet: show no progress.
        team: processes that share the batches, each with the same encoder and plan, inside ``team.one_end()``; all of
            them get the results, the first one the examples.

    Raises:
        ConfigError: the state belongs to another evaluation or is damaged.
        ValueError: a defence or classifier failed or returned nonsense, or images cannot be read.
        Unfinished: a process of the team was asked to end; what is judged is in ``state``.
    """
    found, team = Evaluation(), team or Team()
    quiet = quiet or team.rank > 0
    with frozen(encoder):
        for task in plan.tasks:
            judge = Judge(encoder, plan, task, subject)
            rows = judge.rows()
            with Ticker(f"{subject.encoder} on {task.dataset}", judge.work_of(len(task)), quiet=quiet) as ticker:
                outcomes = _all_batches(judge, rows, state, ticker, found, team)
            found.notes += judge.notes
            for notes in team.gather(judge.notes):  # one that went on may have had no need to grow its draws
                found.notes += [note for note in notes if note not in found.notes]
            found.outcomes[task.dataset], found.rows[task.dataset] = outcomes, rows
            found.results += rows.of(outcomes)
        if plan.wish is not None and team.rank == 0:
            behind = partial(_behind, encoder, plan)
            found.looks = look(plan.wish, subject, behind, quiet=quiet)
    return found


def _behind(encoder: ImageEncoder, plan: Plan, defense: str) -> ImageEncoder:
    return encoder if defense == "none" else plan.defend(defense, encoder, plan.tasks[0])


def _all_batches(
    judge: Judge, rows: Rows, state: Path | None, ticker: Ticker, found: Evaluation, team: Team
) -> Outcomes:
    outcomes = Outcomes()
    config, total = judge.plan.config, len(judge.task)
    count = -(-total // config.batch_size)
    if team.rank == 0 and count < team.size:
        log.warning(
            "%s: batches of %d images are too few for %d processes; a smaller batch_size lets all of them judge",
            *(judge.task.dataset, config.batch_size, team.size),
        )
    for first in range(0, count, team.size):  # a round: a batch for each process
        for part in _round(judge, first, count, state, ticker, found, team):
            outcomes.extend(part)
            done = len(outcomes.keys)
            if config.stop_width and done < total and widest(rows, outcomes) <= config.stop_width:
                found.notes.append(_stopped(judge, done, total))
                return outcomes
    return outcomes


def _round(
    judge: Judge, first: int, count: int, state: Path | None, ticker: Ticker, found: Evaluation, team: Team
) -> list[Outcomes]:
    """The outcomes of as many batches as there are processes, in order; each process judges one."""

    def file(number: int) -> Path | None:
        return state / f"{judge.task.dataset}-{number:05d}.json" if state else None

    header = {"config": judge.plan.hash, "weights": judge.subject.fingerprint}
    mine, part = first + team.rank, None
    if mine < count:
        batch = judge.task.batch(mine, judge.plan.config.batch_size).to(judge.device)
        wanted = judge.plan.config.examples if mine == 0 else 0
        try:
            part = _one_batch(judge, batch, file(mine), header, ticker, found, wanted, team)
        except Unfinished:
            if team.size == 1:
                raise
    if team.size == 1:
        assert part is not None
        return [part]
    told = team.gather({"part": part and part.to_json(), "asked": team.asked()})
    if any(said["asked"] for said in told):
        raise Unfinished
    parts = [Outcomes.from_json(said["part"]) for said in told if said["part"] is not None]
    for number, other in enumerate(parts, first):
        if number != mine:
            ticker.advance(judge.work_of(len(other.keys)))
            if (path := file(number)) is not None and not path.is_file():  # nobody else's disk can be seen from here
                write_outcomes(path, other, **header)
    return parts


def _one_batch(
    judge: Judge,
    batch: ImageBatch,
    file: Path | None,
    header: dict[str, str],
    ticker: Ticker,
    found: Evaluation,
    wanted: int,
    team: Team,
) -> Outcomes:
    part = Outcomes(keys=list(batch.key))
    if file is not None and file.is_file():
        part = _known(file, header, batch, judge)
    began_anew = not part.draws
    saver = _Saver(file, header, part, team)
    adversarial = judge.batch(batch, ticker, part, saver.keep)
    saver.write(part)
    if wanted:
        few = batch.select(slice(0, wanted))
        found.examples += judge.show(batch, adversarial, wanted) if began_anew else judge.examples(few)
    part.keep(judge.cells)  # the plan's order, whatever a file's was
    return part


class _Saver:
    """Writes unfinished work to its file, not oftener than every so many seconds; ``part`` is what it holds already."""

    def __init__(self, file: Path | None, header: dict[str, str], part: Outcomes, team: Team) -> None:
        self.file, self.header, self.team = file, header, team
        self.written, self.last = ",".join(map(str, part.draws)), time.monotonic()

    def keep(self, part: Outcomes) -> None:
        if self.team.asked():
            self.write(part)
            raise Unfinished
        if time.monotonic() - self.last >= SAVE_EVERY:
            self.write(part)

    def write(self, part: Outcomes) -> None:
        if self.file is not None and self.written != (now := ",".join(map(str, part.draws))):
            write_outcomes(self.file, part, **self.header)
            self.written, self.last = now, time.monotonic()


def _known(file: Path, header: dict[str, str], batch: ImageBatch, judge: Judge) -> Outcomes:
    """The outcomes of a batch that was judged before, perhaps not to the end."""
    part = read_outcomes(file, **header)
    if part.keys != list(batch.key):
        raise ConfigError(f"{file} is about other images than the data now holds; delete it")
    if not part.draws.keys() <= set(judge.cells):
        raise ConfigError(f"{file} is damaged (it holds attacks of another plan); delete it")
    lacking = {cell.defense for cell in part.draws.keys() - part.scores.keys()}
    gated = {name for name in lacking if judge.scores(judge.defenses[name], batch, batch.x) is not None}
    part.keep([cell for cell in part.draws if cell.defense not in gated])  # written before gates were scored
    return part


def _stopped(judge: Judge, done: int, total: int) -> dict[str, Any]:
    width = 100 * judge.plan.config.stop_width
    return {
        "title": f"{judge.subject.encoder} on {judge.task.dataset}: stopped early",
        "text": (
            f"After {done} of {total} images every worst case was known within {width:.0f} points; the intervals are "
            "anytime intervals and hold although the evaluation looked before it stopped."
        ),
    }


def digest_of(keys: Sequence[str]) -> str:
    """16 hexadecimal digits that name a list of images."""
    return hashlib.blake2b("\n".join(keys).encode(), digest_size=8).hexdigest()
