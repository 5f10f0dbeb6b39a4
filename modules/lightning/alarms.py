"""Signs that a training run fools its own attack: masked gradients and catastrophic overfitting (arXiv:2001.03994)."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from modules.attacks.pgd import PGD
from modules.perturb.ascent import slope
from modules.perturb.losses import Loss
from modules.perturb.threat import Threat

_ONE_STEP = 1.05  # how far one step may rise, in rises of ten steps
_FIFTY_STEPS = 2.0  # how far fifty steps may, in the same unit
_CHANCE = 0.8  # how far random points may
_SPREAD = 0.7  # how much the start may matter, in rises
_SLOPE = 1e-3  # how little of the rise the gradient may foretell; FARE starts small
_ZEROS = 0.1  # share of images whose gradient may be exactly zero
_COLLAPSE = 1e-3  # how small the gradient may become, in gradients of an earlier probe


@dataclass(frozen=True)
class Alarm:
    """Something that an honest model does not do.

    Attributes:
        name: short, for logs.
        text: what was seen and what it means, in words.
        value: the number that was too large or too small.
    """

    name: str
    text: str
    value: float


@dataclass(frozen=True)
class Probe:
    """A loss around a batch of images: means over the images.

    Attributes:
        clean: loss of the images.
        chance: of the worst of ten random points on the ball's surface.
        one_step: after one step across the ball from a random start (FGSM).
        ten_steps: the best of PGD-10, averaged over starts.
        fifty_steps: the best of PGD-50 with smaller steps.
        spread: what PGD-10's best start gains over its worst.
        gradient: size of the gradient at a random start, under the dual norm.
        foretold: rise of the loss over eps if the gradient stayed as it is there.
        zeros: share of images whose gradient is exactly zero there.
    """

    clean: float
    chance: float
    one_step: float
    ten_steps: float
    fifty_steps: float
    spread: float
    gradient: float
    foretold: float
    zeros: float


def probe(loss: Loss, x: Tensor, threat: Threat, *, starts: int = 3) -> Probe:
    """What one step, ten, fifty and chance find; for about 52 + 10 * ``starts`` gradients of the batch.

    Works on a classifier, ``lambda v: cross_entropy(classifier(v), y)``, and on ``Objective.inner``.  Every start is
    random, as FARE's loss has no gradient at the image.  Weights and modes are the caller's (``encoders.frozen``).

    Args:
        loss: pixels [B, 3, H, W] -> [B].
        x: images in [0, 1].
        threat: the ball, linf or l2; under l1 plain steps are weak on honest models too.
        starts: of PGD-10.

    Raises:
        ValueError: eps is 0, another norm, or there are no two starts to compare.
    """
    if threat.norm not in ("linf", "l2"):
        raise ValueError(f"a probe works under linf and l2, not {threat.norm}")
    if threat.eps == 0 or starts < 2:
        raise ValueError(f"a probe needs a ball and two starts or more, not eps={threat.eps} and starts={starts}")
    eps, names = threat.eps, [f"alarms/{number}" for number in range(starts)]
    ten = [PGD(threat, steps=10, step_size=eps / 4).perturb(loss, x, name) for name in names]
    one = PGD(threat, steps=1, step_size=2 * eps, keep="last").perturb(loss, x, names[0])
    fifty = PGD(threat, steps=50, step_size=eps / 10).perturb(loss, x, names[0])
    far = [(x + threat.sample_far(x, f"alarms/far/{number}")).clamp(0.0, 1.0) for number in range(10)]
    with torch.no_grad():
        by_start = torch.stack([loss(point) for point in ten])
        by_chance = torch.stack([loss(point) for point in far]).amax(dim=0)
        clean, one_step, fifty_steps = (loss(point).mean().item() for point in (x, one, fifty))
    steep = _steepness(loss, (x + threat.sample(x, names[0])).clamp(0.0, 1.0), threat)
    return Probe(
        clean=clean,
        chance=by_chance.mean().item(),
        one_step=one_step,
        ten_steps=by_start.mean().item(),
        fifty_steps=fifty_steps,
        spread=(by_start.amax(dim=0) - by_start.amin(dim=0)).mean().item(),
        gradient=steep.mean().item(),
        foretold=threat.eps * steep.mean().item(),
        zeros=(steep == 0).float().mean().item(),
    )


def alarms(found: Probe, earlier: Probe | None = None) -> list[Alarm]:
    """The alarms that a probe raises; none for an honest model.

    Args:
        found: of the model as it is.
        earlier: of the same loss at an earlier step of training, to compare gradients with.
    """
    if not all(math.isfinite(number) for number in astuple(found)):
        return [Alarm("not_finite", "the loss or its gradient is not finite around the images", math.nan)]
    ten = found.ten_steps - found.clean
    most = max(ten, found.one_step - found.clean, found.fifty_steps - found.clean, found.chance - found.clean)
    raised = [*_weak_steps(found, ten), *_dead_gradients(found, most)]
    if most > 0 and found.spread > _SPREAD * most:
        text = f"where PGD-10 starts decides {found.spread / most:.0%} of what it finds: the loss is too rugged for it"
        raised.append(Alarm("start_matters", text, found.spread / most))
    if earlier is not None and found.gradient < _COLLAPSE * earlier.gradient:
        share = found.gradient / earlier.gradient
        text = f"the gradient shrank to {share:.1e} of what it was: attacks that follow it go blind"
        raised.append(Alarm("gradient_collapse", text, share))
    return raised


def _weak_steps(found: Probe, ten: float) -> list[Alarm]:
    """Other ways to a high loss that are better than PGD-10; ten: the rise that PGD-10 finds."""
    rises = {
        "one_step_wins": (found.one_step, _ONE_STEP, "one step raises the loss {} times as far as PGD-10"),
        "ten_steps_fail": (found.fifty_steps, _FIFTY_STEPS, "PGD-50 raises the loss {} times as far as PGD-10"),
        "chance_wins": (found.chance, _CHANCE, "ten random points raise the loss {} times as far as PGD-10"),
    }
    means = {
        "one_step_wins": "gradients on the way mislead it",
        "ten_steps_fail": "training no longer meets the worst case (catastrophic overfitting)",
        "chance_wins": "gradients lead nowhere",
    }
    raised = []
    for name, (reached, allowed, text) in rises.items():
        rise = reached - found.clean
        if rise > 0 and rise > allowed * ten:
            times = rise / ten if ten > 0 else math.inf
            raised.append(Alarm(name, f"{text.format(f'{times:.2f}')}: {means[name]}", times))
    return raised


def _dead_gradients(found: Probe, most: float) -> list[Alarm]:
    """Gradients that are zero, or far too small for the rise that is there; most: the largest rise known."""
    raised = []
    if found.zeros > _ZEROS:
        text = f"the gradient of {found.zeros:.0%} of the images is exactly zero: their attack does not move"
        raised.append(Alarm("zero_gradient", text, found.zeros))
    if most > 0 and found.foretold < _SLOPE * most:
        share = found.foretold / most
        text = f"the gradient foretells {share:.1e} of the rise that is there: it is hidden from attacks that follow it"
        raised.append(Alarm("gradient_too_small", text, share))
    return raised


def _steepness(loss: Loss, x: Tensor, threat: Threat) -> Tensor:
    """[B] how steeply the loss rises at x along the threat's steepest direction: the dual norm of the gradient."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        grad = slope(loss(leaf), leaf)
    return (grad * threat.steepest(grad)).flatten(1).sum(dim=1)
