"""``robustclip replay``: a step of a training once more, sample by sample."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from data.folder_lock import lock_folder
from eval.inert import inert
from modules.lightning.finetuning import AdversarialFineTuning
from train.broken_steps import SKIPPED, SPIKES, note_name
from train.draws import seed_generators
from train.replay_pictures import write_pictures
from train.replay_state import Before, before_step, losses_of, shares_of
from train.replay_step import Sample, Share, attacked, badness, drawn, measure_gradients
from train.runs import Run

SAMPLES = "samples_by_process"
"""Under which a note has the names of the step's samples."""


@dataclass(frozen=True)
class Wishes:
    """What is asked of a replay.

    Args:
        step: number of the step, from 1; None takes the newest that was noted.
        retrain: steps that may be trained anew where no checkpoint lies just before the step.
        gradients: samples whose gradient is computed, the worst ones.
        worst: samples that are shown in pictures.
        processes: that shared the step; None takes what was noted, or what the config says.
    """

    step: int | None = None
    retrain: int = 200
    gradients: int = 256
    worst: int = 4
    processes: int | None = None


@dataclass
class Replay:
    """What a step does.

    Attributes:
        before: the run before the step.
        note: what the training noted of the step; None where it noted nothing.
        shares: per process, its batches.
        folder: of what was written.
        loss_in_training: mean over the step in ``metrics.csv``; None where it has no such line.
        same_samples: the samples are those that were noted; None where none were.
    """

    before: Before
    note: dict[str, Any] | None
    shares: list[list[Share]]
    folder: Path
    loss_in_training: float | None = None
    same_samples: bool | None = None

    @property
    def samples(self) -> list[Sample]:
        """All samples of the step, the worst first."""
        found = [sample for batches in self.shares for share in batches for sample in share.samples]
        return sorted(found, key=badness, reverse=True)

    @property
    def loss(self) -> float:
        """Mean over the step, here."""
        losses = [share.loss for batches in self.shares for share in batches]
        return sum(losses) / len(losses)

    @property
    def to_blame(self) -> list[Sample]:
        """Samples that break the step, each by itself."""
        return blamed(self.samples, self.note)


def replay(run: Run, kind: str, wishes: Wishes) -> Replay:
    """The step, recomputed; ``RUN/replay/step=000012/`` gets ``record.json`` and ``images.png``.

    A step is a function of weights, samples, seed and number, so that the perturbed pictures are those of the training,
    bit for bit, on the same kind of machine and where the weights are: from a checkpoint just before the step, or of
    one process.

    Args:
        run: its folder and config.
        kind: ``finetune`` or ``prior``.
        wishes: what is asked for.

    Raises:
        ConfigError: no such step, or it is too far from a checkpoint.
        ValueError: model or data cannot be read any more.
    """
    step = noted_steps(run.folder)[-1] if wishes.step is None else wishes.step
    last = run.config.optimizer.max_steps
    if not 1 <= step <= last:
        raise ConfigError(f"--step {step}: the run has steps 1 to {last}")
    note, folder = read_note(run.folder, step), run.folder / "replay" / Path(note_name(step)).stem
    lock = lock_folder(folder)
    before = before_step(run, step, kind=kind, most=wishes.retrain, out=folder / "anew")
    batches = shares_of(before, run.config, wishes.processes or _processes(run.config, note))
    told = losses_of(run.folder / "metrics.csv").get(step)
    found = Replay(before, note, _shares(before, batches, run.config, wishes), folder)
    found.loss_in_training = None if told is None else float(told)
    if note is not None:
        found.same_samples = [[key for batch in mine for key in batch.key] for mine in batches] == note[SAMPLES]
    _write(found, wishes)
    lock.release()
    return found


def _shares(before: Before, batches: list[list[Any]], config: Any, wishes: Wishes) -> list[list[Share]]:
    """What every process did with its batches."""
    world = len(batches)
    with before.context:
        shares = [
            [_share(before, batch, (number, rank, world), config) for number, batch in enumerate(mine)]
            for rank, mine in enumerate(batches)
        ]
        measure_gradients(before.module, [share for mine in shares for share in mine], wishes.gradients)
    return shares


def _share(before: Before, batch: Any, place: tuple[int, int, int], config: Any) -> Share:
    """A batch of the step; place: its number within the step, the process, and how many there are."""
    number, rank, world = place
    module, done = before.module, before.step - 1
    batch = batch.to(module.device)
    seed_generators(config.seed, done, number, rank)
    if isinstance(module, AdversarialFineTuning):
        return attacked(module, batch, before.step, rank)
    position = ((done * config.trainer.accumulate + number) * world + rank) * len(batch.key)
    return drawn(module, batch, position, rank)


def _processes(config: Any, note: dict[str, Any] | None) -> int:
    if note is not None:
        return len(note[SAMPLES])
    devices = config.trainer.devices
    return devices * config.trainer.num_nodes if isinstance(devices, int) and devices > 0 else 1


def blamed(samples: Sequence[Sample], note: dict[str, Any] | None) -> list[Sample]:
    """Samples of which something is not finite; else, of a step that stood out, those that stand out themselves."""
    broken = [sample for sample in samples if sample.broken]
    if broken or note is None or "median" not in note:
        return broken
    return [sample for sample in samples if sample.loss > note["ratio"] * note["median"]]


def noted_steps(folder: Path) -> list[int]:
    """Steps that a training left out or found to stand out, in order.

    Raises:
        ConfigError: there are none.
    """
    files = [file for name in (SKIPPED, SPIKES) for file in (folder / name).glob("step=*.json")]
    if not files:
        raise ConfigError(f"no step of {folder} was left out or stood out; name one, --step 12")
    return sorted({int(file.stem.partition("=")[2]) for file in files})


def read_note(folder: Path, step: int) -> dict[str, Any] | None:
    """What a training noted of a step, None for nothing.

    Raises:
        ConfigError: the file is damaged.
    """
    for name in (SKIPPED, SPIKES):
        file = folder / name / note_name(step)
        if file.is_file():
            try:
                note = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                note = None
            if not isinstance(note, dict) or not isinstance(note.get(SAMPLES), list):
                raise ConfigError(f"{file} is damaged; delete it and say --step {step}")
            return note
    return None


def _write(found: Replay, wishes: Wishes) -> None:
    before = found.before
    record = {
        "step": before.step,
        "checkpoint": before.checkpoint.name if before.checkpoint else None,
        "trained_anew": before.anew,
        "repeats_metrics": before.repeats,
        "processes": len(found.shares),
        "noted": found.note,
        "same_samples": found.same_samples,
        "loss": found.loss,
        "loss_in_training": found.loss_in_training,
        "x_adv": [[_digest(share) for share in mine] for mine in found.shares],
        "to_blame": [sample.key for sample in found.to_blame],
        "samples": [asdict(sample) for sample in found.samples],
    }
    write_atomically(found.folder / "record.json", json.dumps(_tellable(inert(record)), indent=1))
    rows = [
        (sample, share.x[i], share.x_adv[i])
        for share in (share for mine in found.shares for share in mine)
        if share.x is not None and share.x_adv is not None
        for i, sample in enumerate(share.samples)
    ]
    rows = sorted(rows, key=lambda row: badness(row[0]), reverse=True)[: wishes.worst]
    if rows:
        write_pictures(found.folder / "images.png", [(inert(sample.key), x, x_adv) for sample, x, x_adv in rows])


def _digest(share: Share) -> str | None:
    """16 hexadecimal digits that differ where one bit of the perturbed pictures does."""
    if share.x_adv is None:
        return None
    return hashlib.blake2b(share.x_adv.detach().float().cpu().numpy().tobytes(), digest_size=8).hexdigest()


def _tellable(value: Any) -> Any:
    """JSON knows no number that is not finite: it becomes a word."""
    if isinstance(value, dict):
        return {name: _tellable(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_tellable(held) for held in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
