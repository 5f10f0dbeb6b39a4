"""Lightning's Trainer from a recipe, and one fit that goes on where the last one stopped."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import AsyncCheckpointIO
from pytorch_lightning.profilers import Profiler

from configs.files import ConfigError
from configs.schema import OptimizerConfig, TrainerConfig
from data.pairs import Pairs
from data.source import ImageSource
from data.targeted import TargetedImages
from eval.team import Unfinished
from modules.lightning.optim import OptimizerSettings
from train.agreement import go_on_together
from train.bad_samples import CountBadSamples
from train.best import BestCheckpoint
from train.broken_steps import SkipBrokenSteps, Watch
from train.callbacks import SaveCheckpoints
from train.checkpoint_io import WholeFiles
from train.datamodules import PositionedData
from train.draws import SeedEveryBatch
from train.metrics import MetricsTable
from train.perf import Speedometer
from train.progress import StepProgress
from train.runs import Run
from train.samples import RecordSamples
from train.spikes import LossSpikes
from train.strategies import strategy_of
from train.survival import LeaveInTime
from train.trackers import Trackers
from train.work import sample_flops

QUIET = (
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*GPU available but not used.*",
    ".*but have no `val_dataloader`.*",
    ".*Detected call of `lr_scheduler.step\\(\\)` before.*",
    ".*all_gather_into_tensor` is deprecated.*",
    ".*returned a view tensor.*",
    ".*Starting from v1.9.0, `tensorboardX`.*",
    ".*in eval mode at the start of training.*",
    ".*AMP with fp16 is not supported on CPU.*",
    ".*This DataLoader will create .* worker processes.*",
)
"""Warnings of libraries about what is meant to be so."""


def optimizer_settings(config: OptimizerConfig) -> OptimizerSettings:
    """The settings a recipe gives."""
    low, high = config.betas
    return OptimizerSettings(
        lr=config.lr,
        weight_decay=config.weight_decay,
        betas=(low, high),
        eps=config.eps,
        warmup_steps=config.warmup_steps,
        max_steps=config.max_steps,
        schedule=config.schedule,
        decay_all=config.decay_all,
    )


def fit(
    module: pl.LightningModule,
    source: Pairs,
    run: Run,
    *,
    max_steps: int,
    title: str,
    kind: str,
    callbacks: Sequence[Callback] = (),
) -> pl.Trainer:
    """The trainer, done with ``max_steps``; it starts from the run's newest checkpoint where there is one.

    Args:
        module: its weights end up trained.
        source: of the samples.
        run: its config names trainer, data and seed.
        max_steps: optimizer steps.
        title: of the progress bar.
        kind: of the recipe.
        callbacks: further ones, e.g. the evaluation; they come before the table of metrics.

    Raises:
        ConfigError: Lightning refuses the devices or the strategy.
        KeyboardInterrupt: somebody pressed Ctrl-C.
        SystemExit: with code 0, a signal said that the job ends soon; a checkpoint was saved.
        ValueError: too many steps in a row were broken.
    """
    config: TrainerConfig = run.config.trainer
    data = PositionedData(
        source,
        batch_size=run.config.data.batch_size,
        workers=run.config.data.workers,
        seed=run.config.seed,
        accumulate=config.accumulate,
    )
    flops = sample_flops(module, targets=isinstance(source, TargetedImages))
    speed = Speedometer(flops=flops, peak=config.peak_tflops, precision=config.precision)
    callbacks = [*callbacks, *_counting(source, run), *_own_callbacks(run, title, speed)]
    with warnings.catch_warnings():
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        trainer = build_trainer(config, max_steps, callbacks, run.folder, kind=kind, profiler=speed)
        go_on_together(trainer, module, run.newest_checkpoint)
        with _ending(trainer, next(callback for callback in callbacks if isinstance(callback, LeaveInTime))):
            trainer.fit(module, datamodule=data, weights_only=True)
    return trainer


def _own_callbacks(run: Run, title: str, speed: Speedometer) -> list[Callback]:
    config: TrainerConfig = run.config.trainer
    leave = LeaveInTime(run.checkpoints, every=config.checkpoint_every)
    spikes = None if config.spikes is None else LossSpikes(config.spikes)
    watch = Watch(config.skips, spikes, config.skip_spikes)
    trackers = Trackers(run.folder, run.config) if config.trackers else None
    return [
        SeedEveryBatch(run.config.seed),
        *([RecordSamples(run.folder)] if config.record_samples else []),
        SkipBrokenSteps(run.folder, seed=run.config.seed, watch=watch, leave=leave),
        *([trackers] if trackers else []),
        MetricsTable(run.folder / "metrics.csv", every=config.log_every, speed=speed, tell=trackers and trackers.tell),
        StepProgress(title),
        SaveCheckpoints(
            run.checkpoints,
            every=config.checkpoint_every,
            keep=config.keep,
            keep_hours=config.keep_hours,
            best=BestCheckpoint(run.folder, config.keep_best) if config.keep_best else None,
        ),
        leave,
    ]


def _counting(source: Pairs, run: Run) -> list[Callback]:
    found = source.bad_samples if isinstance(source, ImageSource) else None
    every = run.config.trainer.checkpoint_every
    return [] if found is None else [CountBadSamples(run.folder, found, checkpoint_every=every)]


@contextmanager
def _ending(trainer: pl.Trainer, leave: LeaveInTime) -> Iterator[None]:
    """A signal lets an evaluation end the run as a step does; Ctrl-C stays Ctrl-C.

    Lightning would leave with code 1 at Ctrl-C, and ignore further ones.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except Unfinished:
        leave.leave(trainer, f"while the checkpoint of step {trainer.global_step} was evaluated")
    except SystemExit as left:
        if not isinstance(left.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from left
    finally:
        leave.listen_no_longer()


def build_trainer(
    config: TrainerConfig,
    max_steps: int,
    callbacks: Sequence[Callback],
    folder: Path,
    *,
    kind: str = "finetune",
    profiler: Profiler | None = None,
) -> pl.Trainer:
    """The Trainer of a recipe.

    Raises:
        ConfigError: Lightning refuses the devices, the strategy or the precision.
    """
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        trainer = pl.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=strategy_of(config, kind),
            precision=config.precision,  # pyright: ignore[reportArgumentType]
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=config.clip,
            max_steps=max_steps,
            callbacks=list(callbacks),
            plugins=[AsyncCheckpointIO(WholeFiles()) if config.save_async else WholeFiles()],
            default_root_dir=folder,
            profiler=profiler,
            logger=False,
            enable_checkpointing=True,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
    except ConfigError:
        raise
    except (MisconfigurationException, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"trainer: {reason}") from error
    if trainer.precision != config.precision:  # Lightning takes another one where half precision needs a GPU
        raise ConfigError(
            f"trainer.precision: {config.precision} needs a GPU, and there is none; use {trainer.precision} or 32-true"
        )
    return trainer
