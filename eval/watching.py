"""Judges the checkpoints of a training from beside it: each once, by as many processes as there are."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from configs.files import ConfigError
from eval.checkpoints import refuse_a_prior_of_one, state_of, subject_of_step
from eval.claims import EXPIRES, Claim, take
from eval.findings import alarms_of, assemble, finding, findings, folder_of, keep, mark, stamp_of
from eval.harness import evaluate
from eval.plan import Plan
from eval.watch import watch
from modules.checkpoint import is_whole, load_tower
from modules.encoders.clip import CLIPEncoder

WEIGHTS = "weights.ckpt"
_NAME = re.compile(r"step=(\d+)\.ckpt")


@dataclass
class Watcher:
    """Finds checkpoints that nobody has judged, and judges them, the oldest first.

    Attributes:
        checkpoints: folder of the training's.
        out: folder of the results, as that of a training that judges its own.
        plan: what to do.
        encoder: takes the weights of one checkpoint after the other.
        name: of the encoder in the rows.
        every: steps between checkpoints that are judged; those in between were saved on leaving.
        last: step of the last one.
        say: told of every checkpoint that was judged or cannot be.
        expires: seconds after which the work of a process that is silent is anybody's.
        judged: steps that this process has judged.
    """

    checkpoints: Path
    out: Path
    plan: Plan
    encoder: CLIPEncoder
    name: str
    every: int
    last: int
    say: Callable[[str], None] = print
    expires: float = EXPIRES
    judged: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        refuse_a_prior_of_one(self.plan)
        self.encoder.freeze()
        self._seen: set[int] = set()
        self._damaged: dict[int, str] = {}  # a file that was not whole, until there is another one in its place

    def pending(self) -> list[int]:
        """Steps with a checkpoint that was not judged to the end, by this or another process."""
        there = {step: path for path in self.checkpoints.glob("step=*.ckpt") if (step := self._step_of(path))}
        kept = {step for path in self.out.glob(f"watched/step=*/{WEIGHTS}") if (step := _number(path.parent.name))}
        found = [step for step in sorted(there.keys() | kept) if self._is_open(step)]
        missed = self._seen - there.keys() - kept - self._damaged.keys()
        gone = sorted(step for step in missed if finding(self.out, step) is None)
        for step in gone:
            self.say(f"step {step}: its checkpoint was removed before it could be judged; raise trainer.keep")
        self._seen = (self._seen | there.keys()) - set(gone)
        return found

    def judge_next(self) -> int | None:
        """The step of the oldest checkpoint that was free, and has been judged; None where there is none.

        Raises:
            ValueError: a defence failed, or the data cannot be read.
        """
        for step in self.pending():
            claim = take(folder_of(self.out, step), self.expires)
            if claim is None:
                continue
            with claim:
                if self._judge(step, claim):
                    return step
        return None

    def _step_of(self, path: Path) -> int:
        """The step of a checkpoint that is to be judged; 0 for others."""
        found = _NAME.fullmatch(path.name)
        step = int(found[1]) if found else 0
        return step if step == self.last or step % self.every == 0 else 0

    def _is_open(self, step: int) -> bool:
        stamp, found = self._stamp(step), finding(self.out, step)
        if stamp is not None and self._damaged.get(step) == stamp:
            return False
        return found is None or (stamp is not None and stamp != found.stamp)

    def _stamp(self, step: int) -> str | None:
        try:
            return stamp_of(self._file(step))
        except OSError:
            return None

    def _file(self, step: int) -> Path:
        return self.checkpoints / f"step={step:06d}.ckpt"

    def _judge(self, step: int, claim: Claim) -> bool:
        """Whether this process has judged the step, now that it may."""
        if not self._is_open(step) or (weights := self._taken_aside(step)) is None:
            return False
        begin, stamp = time.perf_counter(), stamp_of(weights)
        try:
            load_tower(self.encoder.visual, weights)
        except ValueError as error:  # weights that are not finite have no accuracy
            self._pass_over(step, stamp, str(error))
            return False
        subject, before = subject_of_step(self.name, step, self.encoder), finding(self.out, step)
        if before is not None and before.weights == subject.fingerprint:
            mark(self.out, replace(before, stamp=stamp))  # trained anew, to the same weights
        else:
            found = evaluate(self.encoder, self.plan, subject, state=state_of(self.out, subject))
            probe, _ = watch(self.encoder, self.plan, None)
            if not claim.is_mine():
                self.say(f"step {step}: another process went on with it while this one stood still")
                return False
            keep(self.out, found, subject, probe, stamp)
        weights.unlink(missing_ok=True)
        assemble(self.out, self.name)
        self.judged.append(step)
        self.say(f"step {step}: judged in {time.perf_counter() - begin:.0f} s")
        for alarm in alarms_of(self.out, findings(self.out), step):
            self.say(f"step {step}: {alarm.name}: {alarm.text}")
        return True

    def _taken_aside(self, step: int) -> Path | None:
        """The checkpoint under a name of ours, so that it stays while it is judged; None where it is not to be had."""
        source, kept = self._file(step), folder_of(self.out, step) / WEIGHTS
        try:
            stamp = stamp_of(source)
            if not kept.is_file() or stamp_of(kept) != stamp:
                kept.unlink(missing_ok=True)
                _linked(source, kept)
        except FileNotFoundError:  # removed by now; who began with it may have left it here
            if not kept.is_file():
                return None
        if not is_whole(kept):
            self._pass_over(step, stamp_of(kept), f"{source} is damaged, or not yet written to the end")
            return None
        return kept

    def _pass_over(self, step: int, stamp: str, why: str) -> None:
        (folder_of(self.out, step) / WEIGHTS).unlink(missing_ok=True)
        self._damaged[step] = stamp
        self.say(f"step {step}: passed over: {why}")


def _number(name: str) -> int:
    return int(name.partition("=")[2]) if re.fullmatch(r"step=\d+", name) else 0


def _linked(source: Path, target: Path) -> None:
    """Give a file a second name, or where its disk cannot, copy it with its time."""
    try:
        target.hardlink_to(source)
        return
    except FileNotFoundError:
        raise
    except OSError:
        temporary = target.with_name(f".{target.name}.tmp")
    try:
        shutil.copy2(source, temporary)
        temporary.replace(target)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ConfigError(f"{source} could not be copied to {target.parent} ({error}); make room there") from error
    finally:
        temporary.unlink(missing_ok=True)
