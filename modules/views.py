"""The views of a defense that an attacker can have, and what is true of each; the one list of them, free of torch."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from modules.choices import check_choice

Gradient = Literal["exact", "own", "bare", "part", "other", "none"]
Trait = Literal["through", "past", "own", "exact", "blunt", "gradient_free"]


class View(StrEnum):
    """Whose gradient does the attacker follow?

    A member is its name, whose gradient is followed, whether the attacker looks through the defense, and a line for
    people.  Nothing else lists views: whatever needs some of them asks for one of the properties.

    Attributes:
        control: nobody's, and nobody heeds the answers: random points of the ball, which show what noise alone does.
        transfer: the bare encoder's; the defense is met only when the finished image is scored.
        adaptive: the defense's own, exactly, or by a smooth stand-in where a sign or a gate has no derivative.
        bpda: the defense's values forward, the identity backward (arXiv:1802.00420).
        eot: as ``adaptive``, with loss and gradient averaged over fresh draws of the defense's noise.
        smooth: of a copy whose signs and gates are smooth, values included.
        gate: as ``adaptive``, while keeping the defense's gate from opening.
        surrogate: of a cheaper copy of the defense.
        trajectory: of the defense stopped after each of its steps, all losses averaged.
        ensemble: of the bare and the defended encoder together, losses averaged.
        parts: of parts of the model that give logits by themselves, such as a member of a vote or what comes before a
            rounding; each on its own, and all together.
        query: nobody's; the attacker only asks for answers.
        released: what the authors' released code hands out, where that differs from the exact gradient.

        gradient: whose it is.  ``exact``: the defense's as it is; ``own``: the defense's, changed or of a copy;
            ``bare``: the bare encoder's alone; ``part``: that of a part of the model; ``other``: something else's;
            ``none``: nobody's.
        through: the attacker follows a gradient and looks through the defense, or a part of it.
        meaning: the view in a few words.
    """

    gradient: Gradient
    through: bool
    meaning: str

    def __new__(cls, name: str, gradient: Gradient, through: bool, meaning: str) -> Self:
        """Make a member, whose value is its name."""
        view = str.__new__(cls, name)
        view._value_ = name
        view.gradient, view.through, view.meaning = gradient, through, meaning
        return view

    control = "control", "none", False, "nobody’s; random points, which show what noise alone does"
    transfer = "transfer", "bare", False, "the bare encoder’s gradient; the defense is met only in the end"
    adaptive = "adaptive", "exact", True, "the defense’s own gradient, through every step"
    bpda = "bpda", "bare", True, "the defense forward, the identity backward"
    eot = "eot", "exact", True, "the defense’s gradient, averaged over draws of its noise"
    smooth = "smooth", "own", True, "of a copy whose signs and gates are smooth"
    gate = "gate", "own", True, "the defense’s gradient, keeping its gate shut"
    surrogate = "surrogate", "own", True, "of a cheaper copy of the defense"
    trajectory = "trajectory", "own", True, "of the defense stopped after each of its steps"
    ensemble = "ensemble", "other", True, "bare and defended encoder together"
    parts = "parts", "part", True, "of parts of the model that give logits by themselves"
    query = "query", "none", False, "nobody’s; the attacker only asks for answers"
    released = "released", "other", False, "what the released code hands out"

    @property
    def past(self) -> bool:
        """The attacker looks past the defense, at the bare encoder."""
        return self.gradient == "bare" and not self.through

    @property
    def own(self) -> bool:
        """The defense's own gradient is followed, exactly or nearly."""
        return self.gradient in ("exact", "own")

    @property
    def exact(self) -> bool:
        """The defense's own gradient is followed as it is; without such a view nobody attacked the defense itself."""
        return self.gradient == "exact"

    @property
    def blunt(self) -> bool:
        """Something simpler is followed: the bare encoder's gradient, or that of a part of the model."""
        return self.gradient in ("bare", "part")

    @property
    def gradient_free(self) -> bool:
        """Nobody's gradient is followed."""
        return self.gradient == "none"


def is_view(name: str, trait: Trait) -> bool:
    """Whether the view of this name has a trait.

    Rows bear names that are no view: ``original``, ``worst``, ``none``, or those of a later version.  Nothing is known
    about these, so they have no trait.
    """
    check_choice("trait", trait, Trait)
    return name in View.__members__ and getattr(View[name], trait)


def meaning_of(name: str) -> str:
    """The view of this name in a few words; empty for a name that is no view."""
    return View[name].meaning if name in View.__members__ else ""


def order_of(name: str) -> int:
    """The place of this name among the views, in the order in which they are explained; other names come last."""
    return [*View.__members__, name].index(name)
