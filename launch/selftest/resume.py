"""A run that is killed again and again ends as one that nobody disturbed."""

from __future__ import annotations

import signal
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from eval.progress import Ticker
from launch.selftest.check import Check, judged
from launch.selftest.compare import same_bits
from launch.selftest.moments import Moment, Pace, Watch, moments, wait_for
from launch.selftest.orphans import can_look
from launch.selftest.recipe import Disturbed
from launch.selftest.start import Life, Starter
from modules.checkpoint import is_whole

LEAVE = 60.0
"""Seconds in which processes must leave once another one is gone."""
_LONGEST = 3600.0  # for a life of a run that nobody disturbs


@dataclass
class Story:
    """What happened to a run.

    Attributes:
        kills: how many, by the kind of the moment.
        in_saving: kills that left a checkpoint half written.
        faults: that a user would call so.
        leaving: longest time that a process needed to leave once another one was gone.
        lingering: longest time that a process outlived all of those of its run.
        orphans: processes that were still there after that.
    """

    kills: Counter[str] = field(default_factory=Counter)
    in_saving: int = 0
    faults: list[str] = field(default_factory=list)
    leaving: list[float] = field(default_factory=list)
    lingering: float = 0.0
    orphans: list[str] = field(default_factory=list)


@dataclass
class Resume:
    """The self-test.

    Args:
        training: what is disturbed.
        starter: of its processes.
        out: folder for the runs.
        processes: of the run.
        planted: a fault that must be found.
    """

    training: Disturbed
    starter: Starter
    out: Path
    processes: int
    planted: str = ""

    def checks(self, kills: int, seed: int, ticker: Ticker) -> list[Check]:
        """Run it undisturbed, run it with so many kills, compare."""
        begin = time.monotonic()
        pace, undisturbed = self.reference()
        ticker.advance(1)
        if undisturbed:
            return [judged("undisturbed run", undisturbed, "")]
        taken, story, number, found = time.monotonic() - begin, Story(), 0, []
        left = moments(kills, seed=seed, processes=self.processes)
        while left or not number:
            number += 1
            name = "killed" if number == 1 else f"killed-{number}"
            before = len(left)
            left = self.disturb(self.out / name, left, pace, story, ticker)
            found.append(same_bits(self.out / "reference", self.out / name))
            if story.faults or len(left) == before:
                break
        ticker.advance(1)
        missed = [f"only {story.kills.total()} of {kills} kills came about"] if left and not story.faults else []
        runs = f" ({number} runs)" if number > 1 else ""
        undone = f"{self.steps()} lines of metrics, {self.processes} processes, {self.training.words[0]}"
        return [
            judged("undisturbed run", [], undone, taken),
            *self._told(story, missed, time.monotonic() - begin - taken, runs),
            *joined(found, runs),
        ]

    def steps(self) -> int:
        """Steps of the undisturbed run."""
        file = self.out / "reference" / "metrics.csv"
        return max(len(file.read_text(encoding="utf-8").splitlines()) - 1, 0) if file.is_file() else 0

    def reference(self) -> tuple[Pace, list[str]]:
        """How fast the undisturbed run is, and why it failed if it did."""
        run, begin = self.out / "reference", time.monotonic()
        life, watch = self._start(run, "reference"), Watch(run)
        first, saving, sight = 0.0, 0.0, begin
        while life.running():
            time.sleep(0.001)
            now = time.monotonic()
            saving += now - sight if watch.saving() else 0.0
            sight = now
            watch.look()
            first = first or (now - begin if watch.steps else 0.0)
        whole = time.monotonic() - begin
        faults = [] if set(life.codes()) == {0} else [f"ended with {life.codes()}: {life.last_words()}"]
        pace = Pace(first, (whole - first) / max(watch.steps, 1), saving / max(watch.saves, 1))
        return pace, faults

    def disturb(self, run: Path, left: list[Moment], pace: Pace, story: Story, ticker: Ticker) -> list[Moment]:
        """Kill a run at these moments and start it again, until it ends; the moments that are left."""
        while True:
            life = self._start(run, f"{run.name}-life{story.kills.total() + 1}")
            if not left:
                if life.wait(_LONGEST) is None or set(life.codes()) != {0}:
                    story.faults.append(f"the last start ended with {life.codes()}: {life.last_words()}")
                return []
            if not wait_for(left[0], life, run, pace):
                life.wait(LEAVE)
                if set(life.codes()) == {0}:
                    return left
                story.faults.append(f"a start ended with {life.codes()}: {life.last_words()}")
                return left
            self._kill(life, left[0], run, story)
            left = left[1:]
            ticker.advance(1)
            if story.faults:
                return left

    def _start(self, run: Path, name: str) -> Life:
        words = self.training.on(self.processes, run)
        return self.starter.start(
            words, self.out / "logs" / f"{name}.txt", processes=self.processes, planted=self.planted
        )

    def _kill(self, life: Life, moment: Moment, run: Path, story: Story) -> None:
        life.send(signal.SIGKILL, None if moment.victim is None else [moment.victim])
        taken = life.wait(LEAVE)
        story.kills[moment.kind] += 1
        if moment.victim is not None and taken is not None:
            story.leaving.append(taken)
            if 0 in life.codes():
                story.faults.append(f"a process ended as if nothing were wrong: {life.codes()}")
        if taken is None:
            story.faults.append(f"processes did not leave within {LEAVE:.0f} s of the end of process {moment.victim}")
            life.send(signal.SIGKILL)
        orphans, lingering = self.starter.orphans()
        story.lingering = max(story.lingering, lingering)
        story.orphans += [f"{words} (process {number})" for number, words in orphans.items()]
        if orphans:
            story.faults.append("processes were left behind")
        story.in_saving += bool(Watch(run).saving())
        story.faults += [f"{p.name} is damaged" for p in (run / "checkpoints").glob("step=*.ckpt") if not is_whole(p)]

    def _told(self, story: Story, missed: list[str], seconds: float, runs: str) -> list[Check]:
        kinds = ", ".join(f"{number} while it {_DOES[kind]}" for kind, number in sorted(story.kills.items()))
        went_on = f"{story.kills.total()} kills{runs}: {kinds}; {story.in_saving} left a checkpoint half written"
        left = f"{len(story.leaving)} times; the last one after {max(story.leaving, default=0.0):.1f} s at most"
        gone = f"after each kill; the last one went after {story.lingering:.1f} s at most"
        gone = gone if can_look() else "not looked for: this system has no /proc"
        return [
            judged("goes on unaided", [*story.faults, *missed], went_on, seconds),
            judged("others leave when one is killed", [], left if story.leaving else "not tried"),
            judged("no orphans", story.orphans, gone),
        ]


_DOES = {"start": "starts", "train": "trains", "save": "saves"}


def joined(found: list[list[Check]], runs: str) -> list[Check]:
    """The checks of several runs as those of one."""
    by_name: dict[str, list[Check]] = {}
    for check in (check for checks in found for check in checks):
        by_name.setdefault(check.name, []).append(check)
    worst = [next((c for c in same if not c.passed), same[0]) for same in by_name.values()]
    return [replace(check, compared=check.compared + runs) if check.passed else check for check in worst]
