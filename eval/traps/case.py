"""What a trap is: a victim, its images, and how the hand-written attack goes about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from eval.score import LogitsEncoder, PlainHead
from eval.traps.nets import Net
from eval.traps.worlds import FAINT, World
from modules.attacks.base import Classifier
from modules.defenses.base import Defense
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat

LINF4 = Threat("linf", 4 / 255)


@dataclass(frozen=True)
class Case:
    """A model or a defense to evaluate, and what the hand-written attack may use.

    Attributes:
        model: makes a fresh one: pixels [B, C, H, W] -> logits [B, K].
        surrogates: networks and differentiable functions whose points fool the victim too, or are the truth about it.
        defense: puts a defense around the model's logits; None for none.
        threat: the ball.
        world: the images.
        searchable: the hand-written attack may follow the victim's own gradient.
        extra: further points [N, C, H, W] for images and labels, projected into the ball.
        alone: users ask about one image at a time.
        inference: users ask in inference mode.
        draws: of a declared defense's noise, in all of which an image has to be right.
    """

    model: Callable[[], Classifier]
    surrogates: Sequence[Classifier | Net] = ()
    defense: Callable[[ImageEncoder], Defense] | None = None
    threat: Threat = LINF4
    world: World = FAINT
    searchable: bool = False
    extra: Callable[[Tensor, Tensor], Iterator[Tensor]] | None = None
    alone: bool = False
    inference: bool = False
    draws: int = 1


@dataclass(frozen=True)
class Trap:
    """A case with its name.

    Attributes:
        name: unique, snake_case.
        kind: of deception, or of honesty.
        broken: whether its robustness is only apparent.
        text: one sentence on what it does.
        build: makes the case.
    """

    name: str
    kind: str
    broken: bool
    text: str
    build: Callable[[], Case]


TRAPS: dict[str, Trap] = {}


def broken(kind: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Register a factory of a victim that is less robust than it looks."""
    return _registered(kind, True)


def honest(kind: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Register a factory of a victim that is as robust as it looks."""
    return _registered(kind, False)


def _registered(kind: str, is_broken: bool) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    def register(build: Callable[[], Case]) -> Callable[[], Case]:
        text = (build.__doc__ or "").strip().splitlines()[0].rstrip(".")
        assert build.__name__ not in TRAPS, f"two traps are called {build.__name__}"
        TRAPS[build.__name__] = Trap(build.__name__, kind, is_broken, text, build)
        return build

    return register


def classifier_of(case: Case) -> Classifier:
    """A fresh victim, behind its defense if it has one: pixels [B, C, H, W] -> logits [B, K]."""
    model = case.model()
    if case.defense is None:
        return model
    encoder = LogitsEncoder(model, case.world.classes, case.world.side).freeze()
    defense, head = case.defense(encoder).eval(), PlainHead([str(k) for k in range(case.world.classes)])
    return lambda x: defense.logits(x, head)
