"""RayS (arXiv:2006.12792): a black-box attack that is told the class and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modules import noise
from modules.attacks.base import Attack, LabelLoss, Labels, Search, where_image
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Threat, per_image

_STEPS_TO_EPS = 32  # a radius is bisected to a 32nd of eps


@dataclass
class _State:
    """Everything RayS carries per image; directions are signs [B, C, H, W], radii [B] are of the box, 0..1."""

    x: Tensor
    direction: Tensor  # the best so far
    radius: Tensor  # along it the image is misclassified; inf where that is not known
    trial: Tensor  # the direction that is being tried
    low: Tensor  # between low and high lies the boundary along the trial
    high: Tensor
    bisecting: Tensor  # [B] bool; otherwise the trial was not asked about yet
    level: Tensor  # [B] int64, blocks are a 2^level-th of the image
    block: Tensor  # [B] int64, the next to turn

    def select(self, keep: Tensor) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[keep])


class RayS(Attack):
    """RayS (arXiv:2006.12792): the nearest misclassified image along a direction of signs, block by block.

    A direction is kept as one sign per pixel and channel.  Halves of the image are turned around, then quarters, down
    to single values; where the image is still misclassified at the best radius known, the boundary along the new
    direction is bisected.  It asks for the class only (of logits averaged over draws), so no obfuscated gradient and
    no rescaled logits can mislead it.

    Differs from the paper: all images of a batch go on side by side, each at its own place; the first direction has
    one random sign per channel instead of +1 everywhere, so that restarts differ; a radius is bisected to eps / 32;
    an image stops once it is misclassified inside the ball.  Under l2 and l1 the directions are the same: every one of
    them is equally long, so these are weaker; prefer Square there.  ``perturb`` takes a loss that is positive where
    the attack has succeeded.

    Args:
        threat: the ball.
        queries: how often each image is asked about; each is one forward pass.
        restarts: independent runs.
    """

    gradient_free = True

    def __init__(self, threat: Threat, /, *, queries: int = 2000, restarts: int = 1) -> None:
        super().__init__(threat, restarts=restarts)
        if queries < 1:
            raise ValueError(f"RayS takes one query or more, not {queries}")
        self.queries = queries

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """The margin; only its sign is looked at."""
        return [(margin, (y,))]

    @torch.no_grad()
    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        state = self._begin(x, stream)
        # by how much every pixel may move: signs have the same length in all directions
        radius = self.threat.eps / float(self.threat.distance(torch.zeros_like(x[:1]), torch.ones_like(x[:1])))
        for _ in range(self.queries):
            keep = loss.narrow() if isinstance(loss, Search) else None
            if keep is not None:
                state.select(keep)
            done = state.radius <= radius
            if done.all():
                break
            asked = torch.where(state.bisecting, (state.low + state.high) / 2, state.high)
            point = _along(state.x, state.trial, asked)
            point = where_image(done, _along(state.x, state.direction, state.radius), point)
            _learn(state, asked, _wrong(loss, point) & ~done, radius / _STEPS_TO_EPS)
        return _along(state.x, state.direction, state.radius.clamp_max(1.0))

    @staticmethod
    def _begin(x: Tensor, stream: str) -> _State:
        signs = 2 * noise.integers(x, f"{stream}/signs", 0, 1, (x.shape[1], 1, 1)).to(x.dtype) - 1
        zeros = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        return _State(
            x=x,
            direction=signs.expand_as(x),
            radius=zeros + torch.inf,
            trial=signs.expand_as(x),
            low=zeros,
            high=zeros + 1,
            bisecting=zeros > 0,
            level=zeros.long(),
            block=zeros.long(),
        )


def _along(x: Tensor, direction: Tensor, radius: Tensor) -> Tensor:
    """Images at a radius [B] along a direction [B, C, H, W], cut to the box."""
    return (x + per_image(radius.clamp_max(1.0), x) * direction).clamp(0.0, 1.0)


def _wrong(loss: Loss, point: Tensor) -> Tensor:
    """[B] bool, whether the images are misclassified."""
    if not isinstance(loss, Search):
        return loss(point) > 0
    y = loss.y[loss.index]
    return loss.logits(point).argmax(dim=1) != y


def _learn(state: _State, asked: Tensor, wrong: Tensor, tolerance: float) -> None:
    """Take in the answers: bisect what works, go to the next block where it does not or the boundary is known."""
    was_bisecting = state.bisecting
    state.high = torch.where(wrong, asked, state.high)
    state.low = torch.where(was_bisecting & ~wrong, asked, state.low)
    state.bisecting = (was_bisecting | wrong) & (state.high - state.low > tolerance)
    known = (was_bisecting | wrong) & ~state.bisecting & (state.high < state.radius)
    state.direction = where_image(known, state.trial, state.direction)
    state.radius = torch.where(known, state.high, state.radius)
    _turn_next(state, ~state.bisecting)


def _turn_next(state: _State, moving: Tensor) -> None:
    """Where ``moving`` [B], try the best direction with the next block turned around, from the best radius."""
    size = state.x[0].numel()
    place = torch.arange(size, device=state.x.device)
    length = (size + 2**state.level - 1) // 2**state.level
    inside = (place >= (state.block * length)[:, None]) & (place < ((state.block + 1) * length)[:, None])
    turned = torch.where(inside.view_as(state.x), -state.direction, state.direction)
    state.trial = where_image(moving, turned, state.trial)
    state.high = torch.where(moving, state.radius.clamp_max(1.0), state.high)
    state.low = torch.where(moving, torch.zeros_like(state.low), state.low)
    finished = (state.block + 1) * length >= size
    coarsest = length == 1
    following = torch.where(finished, torch.where(coarsest, 0, state.level + 1), state.level)
    state.level = torch.where(moving, following, state.level)
    state.block = torch.where(moving, torch.where(finished, 0, state.block + 1), state.block)
