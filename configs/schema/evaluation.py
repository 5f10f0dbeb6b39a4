"""What recipes of evaluations may say: evaluate, scorecard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from configs.schema.parts import MISSING, ModelConfig, ThreatConfig
from configs.schema.ranges import Amount, Count, File, Positive, Range, Seed
from configs.schema.tasks import FilteringConfig, NeighboursConfig, RetrievalConfig
from modules.units import Pixels
from modules.views import View

CascadeName = Literal["none", "view", "all"]

RecheckName = Literal["rounded", "afresh"]

if TYPE_CHECKING:
    ViewName = str
else:
    ViewName = Literal[tuple(view.value for view in View)]


@dataclass
class ChoiceConfig:
    """Two-alternative forced choice, instead of classification: ``shards`` names triplets of pictures.

    Attributes:
        ask: ``nearer``, which of two is nearer to the reference; ``odd_one_out``, which of three is outside the most
            similar pair (THINGS; reference is then the first picture, the alternatives are the others).
        target: what an attacker may change: the reference, both alternatives, or all; ``eps`` holds for each picture.
        framing: ``crop`` cuts the centre out, ``squash`` scales the whole picture.
        interpolation: filter of the scaling.
    """

    ask: Literal["nearer", "odd_one_out"] = "nearer"
    target: Literal["reference", "alternatives", "all"] = "reference"
    framing: Literal["crop", "squash"] = "crop"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"


@dataclass
class TaskConfig:
    """Samples that an encoder is asked about: zero-shot classification of a data set, unless it says another question.

    Attributes:
        shards: as in ``DataConfig``; with ``dataset`` also the folder that it was unpacked to.
        dataset: a data set of the catalog, such as ``fare/cifar10`` (``robustclip data catalog`` lists them), which
            says what is expected, where class names and templates come from, and at which size it is attacked.
        split: the images that are judged; with ``dataset``, ``test`` means the one that its protocol judges.
        tune_split: other images, for what a defence calibrates.
        limit: so many images, a fixed fair choice; null takes all.
        ids: file with the names of the images to take, one a line; null takes all.
        first: the first so many images of the list, or of all; null takes all.
        templates: prompts with ``{}``; null takes the set's own.
        logit_scale: factor on the cosines of a zero-shot head; null takes the model's own.
        allow_count_mismatch: take a ``dataset`` with other numbers of images or classes; every row says so.
        choice: ask which of two pictures is nearer to a third; null classifies.
        retrieval: look for pictures by a picture.
        neighbours: tell classes by labelled examples, as NSFW detectors do.
        filtering: filter out what is too near to a reference set.
        transfer_from: ``base`` also tries attacks on the original encoder, before its fine-tuning (view ``original``).
    """

    shards: str = MISSING
    dataset: str | None = None
    split: str = "test"
    tune_split: str = "tune"
    limit: Count | None = None
    ids: File | None = None
    first: Count | None = None
    templates: list[str] | None = None
    logit_scale: Positive | None = None
    allow_count_mismatch: bool = False
    choice: ChoiceConfig | None = None
    retrieval: RetrievalConfig | None = None
    neighbours: NeighboursConfig | None = None
    filtering: FilteringConfig | None = None
    transfer_from: Literal["base"] | None = None


@dataclass
class CurveConfig:
    """Robust accuracy over eps: one attack, one view, some defences.

    Attributes:
        eps: radii in [0, 1] pixels.
        attack: name of one of the recipe's attacks.
        defenses: names of some of the recipe's defences.
    """

    eps: list[Pixels] = field(default_factory=list)
    attack: str = ""
    defenses: list[str] = field(default_factory=list)


@dataclass
class InversionConfig:
    """Looking into the encoder: the images that it takes for some names, in the report and at every checkpoint.

    Attributes:
        texts: names to find images of; none looks for nothing.
        templates: prompts with ``{}`` for a name.
        defenses: names of some of the recipe's defences to look through; ``none`` is the bare encoder.
        start: ``grey`` or ``noise``.
        radius, steps, step_size, variation, shift, spread, looks: of the search (``modules.perceptual.inversion``);
            lengths that are null grow with the images.
    """

    texts: list[str] = field(default_factory=list)
    templates: list[str] = field(default_factory=lambda: ["a photo of {}"])
    defenses: list[str] = field(default_factory=lambda: ["none"])
    start: Literal["grey", "noise"] = "grey"
    radius: float | None = None
    steps: int = 60
    step_size: float | None = None
    variation: float = 0.0
    shift: int | None = None
    spread: float = 0.15
    looks: int = 2


@dataclass
class EvaluateConfig:
    """``robustclip evaluate``: task x dataset x defence x attack x view.

    Attributes:
        tasks: data sets by name.
        defenses: by name in the results; the component's ``name`` where it differs.
        attacks: by name in the results; ``views`` restricts one to some views.  Without attacks and views, only clean
            images are judged.
        views: the views to take, of those that each defence has.
        eot_draws: draws of the noise that attackers of a random defence average over; 0 grows their number until the
            gradient's estimate is flat.
        score_draws: fresh draws on which every image of a random defence is scored.
        cascade: what an attack leaves out, and its row counts as fallen: ``none``, what earlier attacks of its ``view``
            have felled in every draw, or what ``all`` attacks and views before it have felled in any.
        rechecks: look at every attacked image again, and count the worse: ``rounded`` to 8 bits inside the ball, and
            ``afresh`` by a copy of the defense that was never asked before.
        stop_width: stop once every worst case is known this closely (width of its anytime interval); 0 never stops.
        curve: robust accuracy over eps.
        inversion: images that the encoder takes for some names; null does not look.
        prior: file of the DiffusionPrior that ``clipure_diff`` uses.
        allow_mismatch: use the prior although it belongs to another encoder; every row says so.
        blank_prompt: the class-free prompt that conditions it.
        encoder: display name of the encoder.
        batch_size: images per forward pass; no number depends on it.
        examples: images to show in the report.
        watch: images on which a training run is watched for masked gradients at every checkpoint; 0 does not watch.
        protocol: name and hash of the published protocol that this is a part of; stands in every row.
        device: ``auto`` takes a GPU where there is one.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    defenses: dict[str, Any] = field(default_factory=dict)
    attacks: dict[str, Any] = field(default_factory=dict)
    views: list[ViewName] = field(default_factory=lambda: [view.value for view in View])
    eot_draws: int = 4
    score_draws: Count = 5
    cascade: CascadeName = "none"
    rechecks: list[RecheckName] = field(default_factory=list)
    stop_width: float = 0.0
    curve: CurveConfig = field(default_factory=CurveConfig)
    inversion: InversionConfig | None = None
    prior: File | None = None
    allow_mismatch: bool = False
    blank_prompt: str = "a photo of a."
    encoder: str = "CLIP"
    batch_size: Count = 256
    examples: Amount = 8
    watch: Amount = 16
    protocol: str = ""
    device: str = "auto"
    seed: Seed = 0


@dataclass
class StrengthConfig:
    """How far the strength of one attack is varied, to see whether the headline has converged.

    Attributes:
        attack: an attack, as under ``attacks``; needs ``steps``, and ``restarts`` for that curve.
        limit: so many of the images.
        eps: multiples of the threat's radius.
        whole: end the curve over eps in a ball in which any image can become one of another class (linf 0.5; under
            l2 and l1 as far as the images of other classes are).
        steps: gradient steps.
        restarts: independent runs.
        draws: of the noise that every loss is averaged over; for random defences only.
    """

    attack: dict[str, Any] = field(default_factory=dict)
    limit: Count = 64
    eps: list[float] = field(default_factory=list)
    whole: bool = True
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

    limit: Amount = 0
    picks: Count = 100
    looks: Count = 1000
    alpha: Annotated[float, Range(above=0, most=0.5)] = 0.001


@dataclass
class ScorecardConfig:
    """``robustclip scorecard``: one encoder, bare or behind one defence, attacked by everything there is.

    Attributes:
        data: the images.
        defense: a component; ``name: none`` judges the bare encoder.
        attacks: by name; ``views`` restricts one to some views.
        views: the views to take, of those that the defence has.
        eot_draws, score_draws, cascade, rechecks, stop_width: as for an evaluation.
        fewer: judge fewer images where the defence makes a gradient dearer, but never fewer than this; 0 judges all.
        strength: the curves.
        certify: certificates.
        probes: images on which gradients and values are examined.
        prior: file of the DiffusionPrior that ``clipure_diff`` uses.
        allow_mismatch: use the prior although it belongs to another encoder; every row says so.
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
    views: list[ViewName] = field(default_factory=lambda: [view.value for view in View])
    eot_draws: int = 0
    score_draws: Count = 5
    cascade: CascadeName = "view"
    rechecks: list[RecheckName] = field(default_factory=lambda: list(get_args(RecheckName)))
    stop_width: float = 0.0
    fewer: Amount = 0
    strength: StrengthConfig = field(default_factory=StrengthConfig)
    certify: CertifyConfig = field(default_factory=CertifyConfig)
    probes: Count = 16
    prior: File | None = None
    allow_mismatch: bool = False
    blank_prompt: str = "a photo of a."
    encoder: str = "CLIP"
    batch_size: Count = 64
    examples: Amount = 6
    device: str = "auto"
    seed: Seed = 0
