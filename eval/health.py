"""The gradients that a defence's views hand to an attacker: their size, their direction, and whether they are true."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from data.batches import ImageBatch
from eval.answers import ATTACK_DRAW, blamed
from eval.card import Health
from eval.judge import Judge
from modules import noise
from modules.attacks.base import LabelLoss
from modules.defenses.base import Defense, View
from modules.defenses.routes import Route, route, undefended
from modules.encoders.base import ImageEncoder, frozen
from modules.perturb.ascent import slope
from modules.perturb.losses import margin
from modules.perturb.threat import per_image

IMAGES = 16  # more tell little more, and some defences take seconds each
DIRECTIONS = 8
DISTANCES = (1 / 255, 0.25 / 255)  # how far a difference steps: curvature spoils the first, rounding the second
TINY = 1e-30


def measure(judge: Judge, name: str, batch: ImageBatch) -> list[Health]:
    """The gradient of each view of a defence, on the first images of a batch; nothing is attacked.

    Of the margin, which never saturates.  Each image's gradient is divided by the spread of its logits, so that a
    defence that merely rescales logits has the bare encoder's gradient.  The noise is the attacker's.

    Args:
        judge: who holds the defence.
        name: of the defence.
        batch: at least one image.

    Raises:
        ValueError: the defence failed, in one line that names it.
    """
    defense = judge.defenses[name]
    few = first_images(batch, defense)
    with frozen(defense), judge.named(few, ATTACK_DRAW), blamed(f"the gradient of {name}"):
        bare = gradient(judge, Route((undefended(defense),)), few)
        looked = [view for view in defense.views() if not (view.past or view.gradient_free or view is View.parts)]
        ways = {view: route(view, defense) for view in looked}
        found = {view: gradient(judge, way, few, draws_of(judge, name, way)) for view, way in ways.items()}
        inner = _off_the_border(few)
        differences = _differences(judge, defense, inner)
        errors = {view: _error(gradient(judge, Route(way.looks), inner), differences) for view, way in ways.items()}
    return [_health(view, grad, bare, found.get(View.bpda), errors[view]) for view, grad in found.items()]


def first_images(batch: ImageBatch, defense: Defense, count: int = IMAGES) -> ImageBatch:
    """The first ``count`` images of a batch, whole groups of them where neighbours depend on one another."""
    whole = max(count // defense.group, 1) * defense.group
    return batch.select(slice(0, whole))


def draws_of(judge: Judge, name: str, way: Route) -> int:
    """Draws of the noise that an attacker on this way averages over."""
    return judge.draws_of(name) if way.averaged else 1


def gradient(
    judge: Judge,
    way: Route,
    batch: ImageBatch,
    draws: int = 1,
    *,
    loss: LabelLoss = margin,
    scale: float = 1.0,
) -> Tensor:
    """[B, C, H, W] gradient that an attacker gets on his way, averaged over looks and draws, over the logits' spread.

    Args:
        judge: who holds the head.
        way: through which encoders.
        batch: images; their noise is named by the caller.
        draws: with several, each is a fresh one.
        loss: (logits, labels) -> [B].
        scale: the loss is multiplied by it and the gradient divided by it: nothing, unless gradients underflow.
    """
    total = torch.zeros_like(batch.x)
    for draw in range(draws):
        for look in way.looks:
            if draws == 1:
                total += _one_gradient(judge, look, way, batch, loss, scale)
                continue
            with noise.redraw(batch.x, draw + 1):  # the draws that a search begins with
                total += _one_gradient(judge, look, way, batch, loss, scale)
    return total / (draws * len(way.looks))


def _one_gradient(
    judge: Judge, look: ImageEncoder, way: Route, batch: ImageBatch, loss: LabelLoss, scale: float
) -> Tensor:
    with torch.enable_grad():
        leaf = batch.x.detach().clone().requires_grad_()
        logits = judge.asked(look, batch)(leaf)
        value = loss(logits, batch.y)
        if way.penalty is not None:
            value = value - way.penalty(leaf)
        grad = slope(scale * value, leaf)
    spread = logits.detach().float().std(dim=1).clamp_min(TINY)
    return grad / scale / per_image(spread, grad)


def _off_the_border(batch: ImageBatch) -> ImageBatch:
    """The images a little inside the box, where differences may step both ways and nothing is cut off."""
    room = 2 * DISTANCES[0]
    return ImageBatch(batch.x.clamp(room, 1 - room), batch.y, batch.key)


@torch.no_grad()
def _differences(judge: Judge, defense: Defense, batch: ImageBatch) -> list[tuple[Tensor, Tensor]]:
    """For each distance, random directions [K, B, C, H, W] of signs and central differences [K, B] along them."""
    classifier = judge.asked(defense, batch)
    spread = classifier(batch.x).float().std(dim=1).clamp_min(TINY)

    def value(x: Tensor) -> Tensor:
        return margin(classifier(x), batch.y).double() / spread

    found = []
    for distance in DISTANCES:
        ways = [2.0 * (noise.uniform(batch.x, f"health/{k}") < 0.5) - 1 for k in range(DIRECTIONS)]
        steps = [(value(batch.x + distance * d) - value(batch.x - distance * d)) / (2 * distance) for d in ways]
        found.append((torch.stack(ways), torch.stack(steps)))
    return found


def _error(grad: Tensor, differences: Sequence[tuple[Tensor, Tensor]]) -> float:
    """How far the slopes that a gradient foretells are from those found, over the longer of both: 0 to 2."""
    errors = []
    for ways, found in differences:
        foretold = (grad.double() * ways).flatten(2).sum(dim=2)
        longest = torch.maximum(foretold.norm(dim=0), found.norm(dim=0)).clamp_min(TINY)
        errors.append(float(torch.nan_to_num((foretold - found).norm(dim=0) / longest, nan=2.0).median()))
    return min(errors)


def _health(view: View, grad: Tensor, bare: Tensor, bpda: Tensor | None, error: float) -> Health:
    finite = grad.flatten(1).isfinite().all(dim=1)
    flat, reference = grad.flatten(1)[finite], bare.flatten(1)[finite]
    known = len(flat) > 0
    other = bpda.flatten(1)[finite] if bpda is not None and view is not View.bpda else None
    ratio = flat.double().norm(dim=1) / reference.double().norm(dim=1).clamp_min(TINY)
    return Health(
        view=view.value,
        norm_ratio=float(ratio.median()) if known else 0.0,
        zeros=float((flat == 0).double().mean()) if known else 0.0,
        dead=float((flat == 0).all(dim=1).double().sum()) / len(grad),
        not_finite=float((~finite).double().mean()),
        cosine_bare=_cosine(flat, reference),
        cosine_bpda=None if other is None else _cosine(flat, other),
        difference_error=error,
    )


def _cosine(a: Tensor, b: Tensor) -> float:
    """Mean cosine of the rows; 0 where one has no length, or where there is none."""
    one, other = (F.normalize(t.double(), dim=1, eps=TINY) for t in (a, b))
    return float((one * other).sum(dim=1).mean()) if len(a) else 0.0
