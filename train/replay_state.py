"""A run as it was before one of its steps: its module with those weights, and the samples of the step."""

from __future__ import annotations

import copy
import csv
import shutil
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from configs.files import ConfigError
from data.catalog import open_images
from data.loader import position_loader
from data.pairs import Pairs
from data.plan import PositionBatches
from data.source import ImageSource
from data.targeted import TargetedImages
from eval.evaluate import load_model
from eval.framing import framing_of
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.prior_training import PriorTraining
from train import finetune, prior
from train.checkpoint_faults import first_sound
from train.datamodules import collate_of, reading_of
from train.prior_pairs import prior_pairs
from train.runs import Run
from train.targets import FrozenTargets
from train.trainer import build_trainer, fit

Module = AdversarialFineTuning | PriorTraining


@dataclass
class Before:
    """What a step begins with.

    Attributes:
        module: with the weights of that moment, on its device.
        source: of the samples.
        step: number of the step, from 1.
        checkpoint: file the weights come from; None for the weights that the recipe starts from.
        anew: steps that were trained once more from there on.
        repeats: whether these steps gave the losses that ``metrics.csv`` has of them; None where it has none.
        context: in which Lightning would call the step, for the recipe's precision.
    """

    module: Module
    source: Pairs
    step: int
    checkpoint: Path | None = None
    anew: int = 0
    repeats: bool | None = None
    context: AbstractContextManager[Any] = field(default_factory=nullcontext)


class _Again(Run):
    """A run that starts from another one's checkpoint."""

    first: Path | None = None

    def newest_checkpoint(self) -> Path | None:
        return self.first


def before_step(run: Run, step: int, *, kind: str, most: int, out: Path) -> Before:
    """The run as it was before a step: from the newest whole checkpoint before it, trained on where there is none.

    A run goes on from a checkpoint with the same bits, on the same kind of machine and with one process; so it does
    here, and the run's own files stay as they are.

    Args:
        run: its folder and config.
        step: number of the step, from 1.
        kind: ``finetune`` or ``prior``.
        most: steps that may be trained anew.
        out: folder in which a training anew may write; it is removed at the end.

    Raises:
        ConfigError: too many steps would have to be trained anew.
        ValueError: model or data cannot be read any more.
    """
    checkpoint, at = checkpoint_before(run, step)
    anew = step - 1 - at
    if anew > most:
        where = checkpoint.name if checkpoint else "the recipe's start"
        raise ConfigError(
            f"step {step} has no checkpoint just before it; {anew} steps from {where} on would have to be trained "
            f"anew and at most {most} may; say --retrain {anew}, or a step up to {at + most + 1}"
        )
    config = alone(run.config)
    module, source, callbacks = _built(kind, config)
    found = Before(module, source, step, checkpoint, anew)
    trainer = build_trainer(config.trainer, step, [], out, kind=kind)
    if anew:
        again = _Again(out, config, finished=False)
        found.repeats = _train_on(found, again, callbacks, kind, run.folder / "metrics.csv")
    else:
        for callback in callbacks:
            callback.setup(trainer, module, "fit")
        if checkpoint is not None:
            module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    device = trainer.strategy.root_device
    module.to(device)
    if isinstance(module, AdversarialFineTuning):
        module.reference.to(device)
    found.context = trainer.precision_plugin.train_step_context()
    return found


def checkpoint_before(run: Run, step: int) -> tuple[Path | None, int]:
    """The newest whole checkpoint from before a step, and the steps done by then; damaged ones are told.

    Raises:
        ConfigError: the newest one names what could run code.
    """
    steps: dict[Path, int] = {}
    for path in run.checkpoints.glob("step=*.ckpt"):
        number = path.stem.removeprefix("step=")
        if not number.isdigit() or (at := int(number)) >= step:
            continue
        steps[path] = at
    found = first_sound(sorted(steps, reverse=True))
    return found, steps[found] if found else 0


def alone(config: Any) -> Any:
    """The config for one process on one device, which the same steps of the same data go through."""
    settings = replace(config.trainer, devices=1, num_nodes=1, strategy="auto", save_async=False, keep=1)
    settings = replace(settings, keep_best=None, trackers=[], record_samples=False)  # nobody is told
    changed = copy.copy(config)
    changed.trainer = settings
    return changed


def _built(kind: str, config: Any) -> tuple[Module, Pairs, list[Callback]]:
    if kind == "prior":
        pairs = prior_pairs(config)
        return prior.build_module(config, pairs), pairs.train, []
    clip, data = load_model(config.model), config.data
    framing, reading = framing_of(clip.image), reading_of(data)
    labeled = finetune.trains_on_labels(config)
    source = open_images(data.shards, data.split, framing, skip_bad=data.skip_bad, labeled=labeled, reading=reading)
    module = finetune.build_module(config, clip, source)
    if data.targets is None:
        return module, source, []
    source = TargetedImages(source)
    return module, source, [FrozenTargets(source, module.reference.encoder, config)]


def _train_on(before: Before, again: _Again, callbacks: list[Callback], kind: str, metrics: Path) -> bool | None:
    """Train up to the step, and say whether the losses on the way are those of the run."""
    again.first = before.checkpoint
    shutil.rmtree(again.folder, ignore_errors=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint.*")  # they moved no weight
            title = f"train up to step {before.step}"
            steps = before.step - 1
            fit(before.module, before.source, again, max_steps=steps, title=title, kind=kind, callbacks=callbacks)
        first = before.step - before.anew
        mine, theirs = losses_of(again.folder / "metrics.csv"), losses_of(metrics)
    finally:
        shutil.rmtree(again.folder, ignore_errors=True)
    both = [step for step in range(first, before.step) if step in mine and step in theirs]
    return all(mine[step] == theirs[step] for step in both) if both else None


def losses_of(metrics: Path) -> dict[int, str]:
    """The losses of a run by step, with all their digits."""
    if not metrics.is_file():
        return {}
    with metrics.open(newline="", encoding="utf-8") as file:
        return {int(row["step"]): row["train/loss"] for row in csv.DictReader(file) if row.get("train/loss")}


def shares_of(before: Before, config: Any, processes: int) -> list[list[Any]]:
    """The batches of the step: per process, one for each that is accumulated.

    Args:
        before: the run before the step.
        config: of the run.
        processes: that shared the step.

    Raises:
        ConfigError: so many processes cannot have shared it.
    """
    source, size, micro = before.source, config.data.batch_size, config.trainer.accumulate
    if size % processes:
        raise ConfigError(f"{processes} processes cannot have shared a batch of {size}; say how many did, --processes")
    shares = []
    for rank in range(processes):
        sampler = PositionBatches(
            n=len(source),
            batch_size=size,
            seed=config.seed,
            start_position=(before.step - 1) * micro * size,
            rank=rank,
            world_size=processes,
            shuffle=source.shuffle if isinstance(source, ImageSource) else True,
            limit=micro,
        )
        shares.append(list(position_loader(source, sampler, collate_of(source), workers=0, seed=config.seed)))
    return shares
