"""Attacks written for the traps, independent of those that are evaluated: their worst case is the truth.

They know how each trap is built, so that they need no luck: the surrogates of a case are what it should have answered
with, differentiable.  Points are plain tensors; each is then shown to a fresh victim that has never seen another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor

from eval.traps.case import Case, classifier_of
from eval.traps.nets import Net, trained
from eval.traps.worlds import World, to_grid
from modules import noise
from modules.attacks.base import Classifier
from modules.perturb.threat import Threat, per_image

STEPS = 40
DRAWS = 10  # of a declared random defense; an image has to be right in all of them
SPARSE = (0.1, 0.02, 0.3)  # shares of the pixels that a step of an l1 attack moves, start by start


def true_accuracy(case: Case) -> float:
    """Share of images that are right as they are, and that none of ``points`` fools."""
    x, y = case.world.test()
    robust = answers_right(case, x, y)
    for x_adv in points(case, x, y):
        robust &= answers_right(case, x_adv, y)
    return float(robust.float().mean())


def points(case: Case, x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Points [N, C, H, W] inside ball and box: of every surrogate, of the victim if it may be asked, and of its own."""
    found: list[Tensor] = []
    for surrogate in case.surrogates:
        if isinstance(surrogate, Net):
            found += _of_net(surrogate, case.world, case.threat)
        else:
            found += _searched(surrogate, x, y, case.threat)
    if case.searchable:
        found += _searched(classifier_of(case), x, y, case.threat, case.draws)
    for x_adv in found:
        yield x_adv
        if case.threat.norm == "linf":
            yield on_grid(x, x_adv, case.threat)
    if case.extra is not None:
        yield from (case.threat.confine(x, x_adv) for x_adv in case.extra(x, y))


def _searched(model: Classifier, x: Tensor, y: Tensor, threat: Threat, draws: int = 1) -> list[Tensor]:
    return [untargeted(model, x, y, threat, draws), targeted(model, x, y, threat, draws)]


@cache
def _of_net(net: Net, world: World, threat: Threat) -> list[Tensor]:
    """Points of a network, which many traps share."""
    return _searched(trained(net), *world.test(), threat)


@torch.no_grad()
def answers_right(case: Case, x: Tensor, y: Tensor) -> Tensor:
    """[N] bool: a fresh victim answers each image of x [N, C, H, W] with y, in every draw of its noise."""
    right = torch.ones(len(y), dtype=torch.bool)
    for draw in range(case.draws):
        parts = x.split(1 if case.alone else len(x))
        with torch.inference_mode() if case.inference else nullcontext():
            answers = [_drawn(classifier_of(case), part, draw).argmax(dim=1) for part in parts]
        right &= torch.cat(answers) == y
    return right


def _drawn(victim: Classifier, x: Tensor, draw: int) -> Tensor:
    with noise.redraw(x, draw):
        return victim(x)


def on_grid(x: Tensor, x_adv: Tensor, threat: Threat) -> Tensor:
    """x_adv [N, C, H, W] as 8-bit images inside an linf ball: rounded towards x where rounding would leave it."""
    most = math.floor(threat.eps * 255 + 1e-4)
    steps = ((x_adv - x) * 255).round().clamp(-most, most)
    return to_grid((to_grid(x) * 255 + steps).clamp(0, 255) / 255)


def untargeted(model: Classifier, x: Tensor, y: Tensor, threat: Threat, draws: int = 1, starts: int = 3) -> Tensor:
    """The point [N, C, H, W] of smallest margin that sign steps find from the image and from corners of the ball."""
    wrong = torch.full_like(y, -1)
    return _best(model, x, y, wrong, threat, draws, starts)


def targeted(model: Classifier, x: Tensor, y: Tensor, threat: Threat, draws: int = 1, starts: int = 2) -> Tensor:
    """As ``untargeted``, towards every other class in turn."""
    with torch.no_grad():
        classes = model(x).shape[1]
    copies = x.repeat_interleave(classes - 1, dim=0)
    labels = y.repeat_interleave(classes - 1)
    offsets = torch.arange(1, classes).repeat(len(y))
    worst = _best(model, copies, labels, (labels + offsets) % classes, threat, draws, starts)
    with torch.no_grad():
        margins = _margin(model(worst), labels).view(len(y), -1)
    return worst.view(len(y), classes - 1, *x.shape[1:])[torch.arange(len(y)), margins.argmin(dim=1)]


def _best(model: Classifier, x: Tensor, y: Tensor, target: Tensor, threat: Threat, draws: int, starts: int) -> Tensor:
    """The point of smallest margin; a negative target stands for the best of the other classes."""
    generator = torch.Generator().manual_seed(0)
    best, lowest = x.clone(), torch.full((len(x),), torch.inf)
    steps = STEPS if threat.norm != "l1" else 2 * STEPS
    for start in range(starts):
        corner = torch.randint(0, 2, x.shape, generator=generator) * 2.0 - 1
        point = threat.confine(x, x + (start > 0) * threat.eps * _unit(threat, corner, SPARSE[0]))
        velocity = torch.zeros_like(x)
        for step in range(steps):
            point = point.detach().requires_grad_()
            with torch.enable_grad():
                logits = _mean_logits(model, point, draws)
                margin = _margin(logits, y)
                towards = logits.gather(1, target.clamp_min(0)[:, None])[:, 0]
                gap = torch.where(target < 0, margin, logits.gather(1, y[:, None])[:, 0] - towards)
                (grad,) = torch.autograd.grad(gap.sum(), point)
            lower = (margin.detach() < lowest) & threat.contains(x, point.detach())
            best[lower], lowest[lower] = point.detach()[lower], margin.detach()[lower]
            velocity = 0.75 * velocity + grad / per_image(grad.flatten(1).abs().mean(1).clamp_min(1e-30), grad)
            left = (1 - step / steps) ** 1.5
            direction = _unit(threat, velocity, left * SPARSE[start % len(SPARSE)])
            point = _ball(threat, step / steps).confine(x, point.detach() - 2 * threat.eps * left * direction)
    return best


def _ball(threat: Threat, progress: float) -> Threat:
    """The ball to search in: under l1 a larger one at first, since corners of a small one hold a step fast."""
    return threat if threat.norm != "l1" else Threat("l1", threat.eps * max(1.0, 3.0 - 4 * progress))


def _unit(threat: Threat, direction: Tensor, share: float) -> Tensor:
    """Length 1 under the norm; under l1 a share of the pixels, at least one, moves by the same amount."""
    if threat.norm != "l1":
        return threat.steepest(direction)
    flat = direction.flatten(1)
    count = max(1, round(share * flat.shape[1]))
    largest = flat.abs().topk(count, dim=1).indices
    return torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign() / count).view_as(direction)


def _mean_logits(model: Classifier, x: Tensor, draws: int) -> Tensor:
    if draws == 1:
        return model(x)
    total = []
    for draw in range(draws):
        with noise.redraw(x.detach(), 1000 + draw):
            total.append(model(x))
    return torch.stack(total).mean(dim=0)


def _margin(logits: Tensor, y: Tensor) -> Tensor:
    own = logits.gather(1, y[:, None])[:, 0]
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
