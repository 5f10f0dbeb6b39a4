"""What a scorecard says, as plain values: the headline, where it comes from, and the reasons to doubt it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from configs.files import ConfigError, write_atomically
from eval.remedies import remedy_of

FILE = "scorecard.json"

Severity = Literal["red", "amber"]
Over = Literal["eps", "steps", "restarts", "draws"]


@dataclass(frozen=True)
class Doubt:
    """A reason not to take the headline at its word.

    Attributes:
        name: of the check, e.g. ``zero_gradient``.
        severity: ``red`` forbids reading the number as robustness, ``amber`` asks to look.
        text: what was found and what it means, for people who did not write the check.
    """

    name: str
    severity: Severity
    text: str

    @property
    def remedy(self) -> str:
        """What to do about it; empty for a name that this version does not know."""
        return remedy_of(self.name)


@dataclass(frozen=True)
class Share:
    """A share of right images: ``value`` in [0, 1], its 95 % interval, and the number of images."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ViewNumber:
    """What one view left standing.

    Attributes:
        view: whose gradient was followed.
        share: right under every attack of the view, image by image.
        attacks: accuracy after each attack, by name; in a cascade, after those before it too.
    """

    view: str
    share: Share
    attacks: dict[str, float]


@dataclass(frozen=True)
class Health:
    """The gradient that one view hands to an attacker, on a few images.

    Attributes:
        view: whose gradient.
        norm_ratio: median length, over the bare encoder's.
        zeros: share of pixels whose gradient is exactly zero.
        dead: share of images whose whole gradient is zero.
        not_finite: share of images with a gradient that is not finite.
        cosine_bare: mean cosine to the bare encoder's gradient.
        cosine_bpda: mean cosine to the BPDA gradient; None for ``bpda`` itself and the bare encoder.
        difference_error: median relative error against finite differences of the defence's own loss.
    """

    view: str
    norm_ratio: float
    zeros: float
    dead: float
    not_finite: float
    cosine_bare: float
    cosine_bpda: float | None
    difference_error: float


@dataclass(frozen=True)
class Curve:
    """Accuracy over the strength of one attack through one view.

    Attributes:
        over: what grows; ``eps`` in [0, 1] pixels.
        attack: name.
        view: whose gradient was followed.
        points: (x, accuracy there), x growing.
        whole: of a curve over eps, its last ball is so large that any image can become one of another class.
    """

    over: Over
    attack: str
    view: str
    points: list[tuple[float, Share]]
    whole: bool = False


@dataclass(frozen=True)
class Cost:
    """What classifying one image takes.

    Attributes:
        forwards: passes through the bare encoder.
        backwards: passes back through it.
        milliseconds: wall clock per image, in a batch of ``batch``.
        bare_milliseconds: of the bare encoder.
        batch: images per batch.
    """

    forwards: float
    backwards: float
    milliseconds: float
    bare_milliseconds: float
    batch: int


@dataclass(frozen=True)
class Bracket:
    """A lower bound beside the attacks' upper bound, in an l2 ball of radius ``eps``.

    Attributes:
        eps: l2 radius in [0, 1] pixels.
        certified: images with a certificate of at least this radius.
        attacked: the same images under every attack tried in that ball; None where attacks used another ball.
    """

    eps: float
    certified: Share
    attacked: Share | None


@dataclass(frozen=True)
class Card:
    """A scorecard.

    Attributes:
        encoder: display name.
        model: name or checkpoint.
        defense: name, ``none`` for the bare encoder.
        settings: of the defence.
        dataset: on which images.
        norm: of the threat.
        eps: its radius in [0, 1] pixels.
        budget: ``quick``, ``standard`` or ``thorough``.
        cascade: what attacks left out and counted as fallen: ``none``, what others of their ``view`` had felled, or
            what ``all`` before them had.
        headline: the per-sample worst case over all attacks, views and draws.
        clean: without an attack.
        views: the worst case of each view.
        static: the bare encoder's clean and worst case on the same images, where there is a defence.
        doubts: reasons not to believe the headline.
        health: of the gradients.
        curves: convergence over steps, restarts and draws, and accuracy over eps.
        cost: of one image.
        bracket: certified below, attacked above, where there is a certificate.
        mean_draw: for a random defence, the accuracy of the mean draw under the same images.
        majority: for a random defence, the accuracy of the majority over draws.
        artefact: a label of behaviour that is kept only to reproduce a release.
        unchecked: checks that could not be made, and why, a sentence each.
        notes: in words: what was set, grown, replaced, or stopped early.
        command: that reproduces it.
        config: hash of the evaluation.
        weights: hash of the encoder.
        seed: of the evaluation.
    """

    encoder: str
    model: str
    defense: str
    settings: dict[str, Any]
    dataset: str
    norm: str
    eps: float
    budget: str
    headline: Share
    clean: Share
    views: list[ViewNumber]
    static: dict[str, Share] = field(default_factory=dict)
    doubts: list[Doubt] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    cost: Cost | None = None
    bracket: Bracket | None = None
    mean_draw: Share | None = None
    majority: Share | None = None
    artefact: str = ""
    cascade: str = "none"
    unchecked: list[str] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    command: str = ""
    config: str = ""
    weights: str = ""
    seed: int = 0

    @property
    def believable(self) -> bool:
        """No red doubt, and no artefact: the headline may be shown as robustness."""
        return not self.artefact and not any(doubt.severity == "red" for doubt in self.doubts)

    def to_json(self) -> str:
        """Text from which ``read_card`` restores this."""
        return json.dumps(asdict(self), indent=1)


def write_card(folder: Path, card: Card) -> Path:
    """Write ``scorecard.json`` to a folder, all or nothing."""
    write_atomically(folder / FILE, card.to_json())
    return folder / FILE


def read_card(folder: Path) -> Card:
    """The scorecard of a folder.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(f"no scorecard at {path}; robustclip scorecard makes one")
    try:
        return _card(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}); make the scorecard again") from error


def _card(content: dict[str, Any]) -> Card:
    def share(value: Any) -> Share | None:
        return None if value is None else Share(**value)

    bracket = content["bracket"]
    made = {
        "headline": Share(**content["headline"]),
        "clean": Share(**content["clean"]),
        "views": [ViewNumber(v["view"], Share(**v["share"]), v["attacks"]) for v in content["views"]],
        "static": {name: Share(**value) for name, value in content["static"].items()},
        "doubts": [Doubt(**doubt) for doubt in content["doubts"]],
        "health": [Health(**health) for health in content["health"]],
        "curves": [Curve(**{**c, "points": [(x, Share(**s)) for x, s in c["points"]]}) for c in content["curves"]],
        "cost": content["cost"] and Cost(**content["cost"]),
        "bracket": bracket and Bracket(bracket["eps"], Share(**bracket["certified"]), share(bracket["attacked"])),
        "mean_draw": share(content["mean_draw"]),
        "majority": share(content["majority"]),
    }
    return Card(**{**content, **made})
