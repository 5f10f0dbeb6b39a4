"""The same honest networks under other balls."""

from __future__ import annotations

from eval.traps.case import Case, honest
from eval.traps.genuine.networks import of_net
from eval.traps.nets import FRAGILE, ROBUST
from modules.perturb.threat import Threat


@honest("radius")
def no_radius_to_speak_of() -> Case:
    """Standard training at linf 0.1/255, where next to nothing is fooled."""
    return of_net(FRAGILE, Threat("linf", 0.1 / 255))


@honest("radius")
def half_a_gray_level() -> Case:
    """Standard training at linf 0.5/255: no other 8-bit image is in the ball."""
    return of_net(FRAGILE, Threat("linf", 0.5 / 255))


@honest("radius")
def robust_at_1() -> Case:
    """Adversarial training, evaluated at linf 1/255."""
    return of_net(ROBUST, Threat("linf", 1 / 255))


@honest("radius")
def robust_at_2() -> Case:
    """Adversarial training, evaluated at linf 2/255."""
    return of_net(ROBUST, Threat("linf", 2 / 255))


@honest("radius")
def robust_at_16() -> Case:
    """Adversarial training, evaluated at linf 16/255, where nothing remains."""
    return of_net(ROBUST, Threat("linf", 16 / 255))


@honest("radius")
def fragile_in_l2() -> Case:
    """Standard training in an l2 ball of 0.04."""
    return of_net(FRAGILE, Threat("l2", 0.04))


@honest("radius")
def robust_in_l2() -> Case:
    """Adversarial training at linf 6/255, evaluated in an l2 ball of 0.1."""
    return of_net(ROBUST, Threat("l2", 0.1))


@honest("radius")
def fragile_in_l1() -> Case:
    """Standard training in an l1 ball of 0.25."""
    return of_net(FRAGILE, Threat("l1", 0.25))


@honest("radius")
def robust_in_l1() -> Case:
    """Adversarial training at linf 6/255, evaluated in an l1 ball of 0.4."""
    return of_net(ROBUST, Threat("l1", 0.4))
