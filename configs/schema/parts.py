"""Parts that several kinds of recipe share: model, threat, optimiser, data, trainer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from configs.schema.ranges import Amount, Count, File, Positive, Range, Share
from modules.units import Pixels

MISSING: Any = "???"


@dataclass
class ModelConfig:
    """Which CLIP.

    Attributes:
        name: open_clip's name, ``hf-hub:…``, ``local-dir:…``, ``timm/…`` (no text tower), or ``tiny``.
        pretrained: tag of the weights; with ``timm/…`` a file of them.
        checkpoint: file or folder, of any format that ``robustclip model inspect`` knows, whose image tower (and of a
            whole CLIP also its text tower) replaces the tag's.
        image_size: H = W, where it should differ from the model's own.
        unrelated: take a checkpoint whose weights are not near the tag's, which fine-tuned ones are.
        head: file of a head that ``robustclip perceptual`` has trained on this very encoder; embeddings are those
            behind it, which no text is near to.
        checkpoint_key: under which name in ``checkpoint`` the weights are, such as ``state_dict_ema``, of a file that
            holds several; null takes the trained ones, not their moving average.
    """

    name: File = MISSING
    pretrained: File = ""
    checkpoint: File | None = None
    image_size: Count | None = None
    unrelated: bool = False
    head: File | None = None
    checkpoint_key: str | None = None


@dataclass
class ThreatConfig:
    """The ball that an attacker stays in.

    Attributes:
        norm: of the ball.
        eps: its radius. Under linf ``4``, ``4.0``, ``4/255`` and ``${px:4}`` are all 4/255: whole numbers and numbers
            above 1 count in 1/255. Other numbers are in [0, 1] pixels, as saved configs have them; typed as an
            override, 0.1 to 1 could be either and is refused. Under l1 and l2 a radius is in [0, 1] pixels, and
            ``128/255`` is that fraction. The same holds for every radius and step of an attack or a defense.
    """

    norm: Literal["linf", "l2", "l1"] = "linf"
    eps: Pixels = MISSING


@dataclass
class OptimizerConfig:
    """AdamW and its schedule; ``modules.lightning.optim.OptimizerSettings`` says what each is."""

    lr: float = 1e-5
    weight_decay: float = 1e-4
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    warmup_steps: int = 1400
    max_steps: int = 20000
    schedule: Literal["cosine", "constant"] = "cosine"
    decay_all: bool = True


@dataclass
class DataConfig:
    """Where samples come from.

    Attributes:
        shards: ``digits``, a folder in clip_benchmark's layout, tars such as ``train-{0000..1023}.tar`` or
            ``train-*.tar``, a folder of images, or tars elsewhere, ``https://host/train-{0000..1023}.tar``, ``s3://``,
            ``gs://``, fetched as needed.
        split: of a set that has several.
        batch_size: over all processes.
        workers: reading processes per training process.
        skip_bad: train on without images that do not decode (counted); otherwise the first one stops the run.
        max_bad: share of bad images above which a run with ``skip_bad`` stops all the same.
        order: ``samples`` mixes all images, ``shards`` those of ``window`` shards at a time; null takes the second for
            shards elsewhere.
        window: shards that are open at a time with ``order=shards``.
        cache: GiB that shards from elsewhere may take on each machine.
        cache_dir: where they are kept; null takes ``ROBUSTCLIP_CACHE`` or the user's cache.
    """

    shards: str = MISSING
    split: str = "train"
    batch_size: Count = 128
    workers: Amount = 4
    skip_bad: bool = False
    max_bad: Share = 0.01
    order: Literal["samples", "shards"] | None = None
    window: Count = 8
    cache: Positive = 100.0
    cache_dir: str | None = None


@dataclass
class TrainerConfig:
    """How the training runs.

    Attributes:
        accelerator: ``auto`` takes a GPU where there is one.
        devices: per node: a number of processes, or of GPUs -1 for all and ``0,1`` for those.
        num_nodes: nodes.
        strategy: how weights and states are spread over processes: ``auto``, ``ddp``, ``fsdp2``, ``zero1``, ``zero2``,
            and for the prior ``zero3``.
        precision: e.g. ``32-true``, ``bf16-mixed``.
        accumulate: batches per optimizer step.
        clip: largest gradient norm; null does not clip.
        checkpointing: compute activations anew in the backward pass: less memory, a third more time.
        compile: compile the trained encoder's passes.
        skips: steps in a row that are left out where a loss or gradient is not finite, before that ends the run.
        spikes: a loss above so many times the median of the last 50 is noted with its samples; null looks for none.
        skip_spikes: leave the step of such a loss out, as if it were not finite.
        checkpoint_every: steps between checkpoints; the last step always has one.
        keep: newest checkpoints that are kept; -1 keeps all.
        keep_hours: of the older ones, one of every so many hours is kept too; null keeps none.
        keep_best: the checkpoint with the best value of a number stays too, and ``checkpoints/best.json`` names it:
            ``val/loss``, ``eval/…/robust_accuracy``, ``min train/attack_gain``; the smallest loss, else the largest.
        save_async: write checkpoints while the training goes on, from a copy in memory.
        log_every: steps between lines of metrics.csv, perf.csv and metrics.jsonl.
        peak_tflops: rate of one device at its best, for ``perf/mfu``; null takes that of known GPUs in half precision.
        trackers: any of ``tensorboard``, ``wandb``, ``mlflow``, told every line and every evaluated checkpoint.
        tracker_options: by tracker: ``wandb`` has project, entity, offline; ``mlflow`` experiment, uri.
        record_samples: every process notes which samples it reads, in ``samples-rank0.csv`` and so on.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: Count = 1
    strategy: str = "auto"
    precision: str = "32-true"
    accumulate: Count = 1
    clip: Positive | None = None
    checkpointing: bool = False
    compile: bool = False
    skips: Amount = 10
    spikes: float | None = None
    skip_spikes: bool = False
    checkpoint_every: Count = 1000
    keep: Annotated[int, Range(least=-1)] = -1
    keep_hours: Positive | None = None
    keep_best: str | None = None
    save_async: bool = False
    log_every: Count = 10
    peak_tflops: Positive | None = None
    trackers: list[str] = field(default_factory=list)
    tracker_options: dict[str, Any] = field(default_factory=dict)
    record_samples: bool = False
