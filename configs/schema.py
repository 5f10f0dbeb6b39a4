"""What each kind of recipe may say, and what it says where it is silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

MISSING: Any = "???"

CascadeName = Literal["none", "view", "all"]

ViewName = Literal[
    "transfer",
    "adaptive",
    "bpda",
    "eot",
    "smooth",
    "gate",
    "surrogate",
    "trajectory",
    "ensemble",
    "query",
    "released",
]


@dataclass
class ModelConfig:
    """Which CLIP.

    Attributes:
        name: open_clip's name, ``hf-hub:…``, or ``tiny``.
        pretrained: tag of the weights.
        checkpoint: file whose image tower replaces the tag's.
        image_size: H = W, where it should differ from the model's own.
    """

    name: str = MISSING
    pretrained: str = ""
    checkpoint: str | None = None
    image_size: int | None = None


@dataclass
class ThreatConfig:
    """The ball: ``norm`` and ``eps`` in [0, 1] pixels (``${px:4}`` is 4/255)."""

    norm: Literal["linf", "l2", "l1"] = "linf"
    eps: float = MISSING


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
        shards: ``digits``, a folder in clip_benchmark's layout, or tars such as ``train-{0000..1023}.tar``.
        split: of a set that has several.
        batch_size: over all processes.
        workers: reading processes per training process.
        skip_bad: train on without images that do not decode (counted); otherwise the first one stops the run.
    """

    shards: str = MISSING
    split: str = "train"
    batch_size: int = 128
    workers: int = 4
    skip_bad: bool = False


@dataclass
class TrainerConfig:
    """How the training runs.

    Attributes:
        accelerator: ``auto`` takes a GPU where there is one.
        devices: per node.
        num_nodes: nodes.
        strategy: Lightning's, e.g. ``ddp``.
        precision: e.g. ``32-true``, ``bf16-mixed``.
        accumulate: batches per optimizer step.
        clip: largest gradient norm; null does not clip.
        checkpoint_every: steps between checkpoints; the last step always has one.
        keep: newest checkpoints that are kept; -1 keeps all.
        log_every: steps between lines of metrics.csv.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    accumulate: int = 1
    clip: float | None = None
    checkpoint_every: int = 1000
    keep: int = -1
    log_every: int = 10


@dataclass
class FinetuneConfig:
    """``robustclip finetune``: an encoder becomes a robust one.

    Attributes:
        encoder: display name of the result.
        train_template: prompt of the classes, for objectives that look at labels.
        evaluation: an evaluation recipe by name under ``recipe``, and what differs from it; null evaluates nothing.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    objective: dict[str, Any] = field(default_factory=dict)
    attack: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    encoder: str = "R-CLIP_F"
    train_template: str = "This is a photo of a {}"
    evaluation: dict[str, Any] | None = None
    seed: int = 0


@dataclass
class NetworkConfig:
    """The prior's network; ``modules.prior.network.PriorNetwork`` says what each is."""

    depth: int = 12
    heads: int = 12
    dim_head: int = 64
    max_text_len: int = 77
    ff_mult: int = 4
    normformer: bool = True
    attention: Literal["cosine", "dot"] = "cosine"
    attn_dropout: float = 0.05
    ff_dropout: float = 0.05
    self_cond: bool = False


@dataclass
class DiffusionConfig:
    """The diffusion; ``modules.prior.diffusion.DiffusionPrior`` says what each is."""

    timesteps: int = 1000
    kind: Literal["cosine", "linear", "quadratic", "sigmoid", "jsd"] = "cosine"
    prediction: Literal["x0", "eps", "v"] = "x0"
    loss: Literal["l2", "l1", "huber"] = "l2"
    text_drop: float = 0.1
    image_drop: float = 0.1


@dataclass
class EMAConfig:
    """The moving average of the prior's weights that is evaluated and exported."""

    beta: float = 0.9999
    every: int = 10
    after: int = 100


@dataclass
class PriorDataConfig:
    """Embedding shards that ``robustclip embed`` wrote.

    Attributes:
        shards: their folder.
        batch_size: over all processes.
        workers: reading processes per training process.
    """

    shards: str = MISSING
    batch_size: int = 256
    workers: int = 0


@dataclass
class PriorConfig:
    """``robustclip prior``: a DiffusionPrior learns an encoder's embeddings."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: PriorDataConfig = field(default_factory=PriorDataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0


@dataclass
class EmbedConfig:
    """``robustclip embed``: images and captions become embedding shards.

    Attributes:
        tokens: store the text tower's token states too.
        device: ``auto`` takes a GPU where there is one.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokens: bool = True
    device: str = "auto"


@dataclass
class TaskConfig:
    """Zero-shot classification of a data set.

    Attributes:
        shards: as in ``DataConfig``.
        split: the images that are judged.
        tune_split: other images, for what a defence calibrates.
        limit: so many images, a fixed fair choice; null takes all.
        ids: file with the names of the images to take, one a line; null takes all.
        templates: prompts with ``{}``; null takes the set's own.
    """

    shards: str = MISSING
    split: str = "test"
    tune_split: str = "tune"
    limit: int | None = None
    ids: str | None = None
    templates: list[str] | None = None


@dataclass
class CurveConfig:
    """Robust accuracy over eps: one attack, one view, some defences.

    Attributes:
        eps: radii in [0, 1] pixels.
        attack: name of one of the recipe's attacks.
        defenses: names of some of the recipe's defences.
    """

    eps: list[float] = field(default_factory=list)
    attack: str = ""
    defenses: list[str] = field(default_factory=list)


@dataclass
class EvaluateConfig:
    """``robustclip evaluate``: task x dataset x defence x attack x view.

    Attributes:
        tasks: data sets by name.
        defenses: by name in the results; the component's ``name`` where it differs.
        attacks: by name in the results; ``views`` restricts one to some views.
        views: the views to take, of those that each defence has.
        eot_draws: draws of the noise that attackers of a random defence average over; 0 grows their number until the
            gradient's estimate is flat.
        score_draws: fresh draws on which every image of a random defence is scored.
        cascade: what an attack leaves out, and its row counts as fallen: ``none``, what earlier attacks of its ``view``
            have felled in every draw, or what ``all`` attacks and views before it have felled in any.
        stop_width: stop once every worst case is known this closely (width of its anytime interval); 0 never stops.
        curve: robust accuracy over eps.
        prior: file of the DiffusionPrior that ``clipure_diff`` uses.
        blank_prompt: the class-free prompt that conditions it.
        encoder: display name of the encoder.
        batch_size: images per forward pass; no number depends on it.
        examples: images to show in the report.
        watch: images on which a training run is watched for masked gradients at every checkpoint; 0 does not watch.
        device: ``auto`` takes a GPU where there is one.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    defenses: dict[str, Any] = field(default_factory=dict)
    attacks: dict[str, Any] = field(default_factory=dict)
    views: list[ViewName] = field(default_factory=lambda: list(get_args(ViewName)))
    eot_draws: int = 4
    score_draws: int = 5
    cascade: CascadeName = "none"
    stop_width: float = 0.0
    curve: CurveConfig = field(default_factory=CurveConfig)
    prior: str | None = None
    blank_prompt: str = "a photo of a."
    encoder: str = "CLIP"
    batch_size: int = 256
    examples: int = 8
    watch: int = 16
    device: str = "auto"
    seed: int = 0


@dataclass
class StrengthConfig:
    """How far the strength of one attack is varied, to see whether the headline has converged.

    Attributes:
        attack: an attack, as under ``attacks``; needs ``steps``, and ``restarts`` for that curve.
        limit: so many of the images.
        eps: multiples of the threat's radius.
        steps: gradient steps.
        restarts: independent runs.
        draws: of the noise that every loss is averaged over; for random defences only.
    """

    attack: dict[str, Any] = field(default_factory=dict)
    limit: int = 64
    eps: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    draws: list[int] = field(default_factory=list)


@dataclass
class CertifyConfig:
    """Certificates of a defence that has them.

    Attributes:
        limit: so many of the images; 0 certifies nothing.
        picks: looks that pick a class.
        looks: looks that certify it.
        alpha: probability that a certificate is wrong.
    """

    limit: int = 0
    picks: int = 100
    looks: int = 1000
    alpha: float = 0.001


@dataclass
class ScorecardConfig:
    """``robustclip scorecard``: one encoder, bare or behind one defence, attacked by everything there is.

    Attributes:
        data: the images.
        defense: a component; ``name: none`` judges the bare encoder.
        attacks: by name; ``views`` restricts one to some views.
        views: the views to take, of those that the defence has.
        eot_draws, score_draws, cascade, stop_width: as for an evaluation.
        fewer: judge fewer images where the defence makes a gradient dearer, but never fewer than this; 0 judges all.
        strength: the curves.
        certify: certificates.
        probes: images on which gradients and values are examined.
        prior: file of the DiffusionPrior that ``clipure_diff`` uses.
        blank_prompt: the class-free prompt that conditions it.
        encoder: display name.
        batch_size: images per forward pass.
        examples: images to show.
        device: ``auto`` takes a GPU where there is one.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    data: TaskConfig = field(default_factory=TaskConfig)
    defense: dict[str, Any] = field(default_factory=lambda: {"name": "none"})
    attacks: dict[str, Any] = field(default_factory=dict)
    views: list[ViewName] = field(default_factory=lambda: list(get_args(ViewName)))
    eot_draws: int = 0
    score_draws: int = 5
    cascade: CascadeName = "view"
    stop_width: float = 0.0
    fewer: int = 0
    strength: StrengthConfig = field(default_factory=StrengthConfig)
    certify: CertifyConfig = field(default_factory=CertifyConfig)
    probes: int = 16
    prior: str | None = None
    blank_prompt: str = "a photo of a."
    encoder: str = "CLIP"
    batch_size: int = 64
    examples: int = 6
    device: str = "auto"
    seed: int = 0


@dataclass
class PretrainConfig:
    """``robustclip pretrain``: the embedded model is trained from scratch."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0


KINDS: dict[str, type] = {
    "finetune": FinetuneConfig,
    "prior": PriorConfig,
    "embed": EmbedConfig,
    "evaluate": EvaluateConfig,
    "scorecard": ScorecardConfig,
    "pretrain": PretrainConfig,
}
