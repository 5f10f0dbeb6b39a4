"""Square Attack (arXiv:1912.00049): random search with squares that asks only for answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modules import noise
from modules.attacks.base import Attack, LabelLoss, Labels, Search, where_image
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Threat, per_image

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_CHUNK = 128  # queries whose random numbers are drawn at once
_TINY = 1e-12

Window = tuple[Tensor, Tensor, Tensor, Tensor]
"""Index of one square per image, all channels of it: ``x[window]`` is [B, C, side, side]."""


class Square(Attack):
    """Square Attack (arXiv:1912.00049): repaint a random square, keep it where the loss rises.

    Under linf a square takes each channel to one face of the ball.  Under l2 and l1 it gets a pattern with two poles,
    and takes over the budget of its place, of a second random square and what is left of eps; the l1 form is the one of
    arXiv:2103.01208.  The share ``p`` of the image that a square covers is halved after queries 10, 50, 200, 500,
    1000, 2000, 4000, 6000 and 8000, whatever ``queries`` is, as AutoAttack does.

    Differs from the reference code: every image has squares, signs and orientations of its own, drawn per sample
    (``modules.noise``), where the reference shares position and orientation over the batch, and under linf the signs;
    so a result does not depend on the images beside it.  Squares reach the last row and column too.  An image that is
    not left out (``compact``) goes on: its margin keeps growing after it was fooled.

    Args:
        threat: the ball.
        queries: proposals after the start; each is one forward pass.
        p: share of the image that the first squares cover.
        restarts: independent runs.
    """

    gradient_free = True

    def __init__(self, threat: Threat, /, *, queries: int = 5000, p: float = 0.8, restarts: int = 1) -> None:
        super().__init__(threat, restarts=restarts)
        if queries < 0 or not 0 < p <= 1:
            raise ValueError(f"Square takes queries >= 0 and 0 < p <= 1, not queries={queries}, p={p}")
        self.queries, self.p = queries, p

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """The margin."""
        return [(margin, (y,))]

    @torch.no_grad()
    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        best = self._stripes(x, stream) if self.threat.norm == "linf" else self._tiles(x, stream)
        value = loss(best)
        standing = torch.arange(len(x), device=x.device)
        numbers = torch.empty(0)
        for query in range(self.queries):
            keep = loss.narrow() if isinstance(loss, Search) else None
            if keep is not None:
                x, best, value, standing = x[keep], best[keep], value[keep], standing[keep]
                numbers = numbers[keep] if len(numbers) else numbers
            if len(x) == 0:
                break
            if query % _CHUNK == 0:
                with noise.subset(standing):
                    numbers = noise.uniform(x, f"{stream}/{query}", (_CHUNK, 5 + x.shape[1]))
            proposed = self._propose(x, best, query, numbers[:, query % _CHUNK])
            answer = loss(proposed)
            better = answer > value
            best, value = where_image(better, proposed, best), torch.where(better, answer, value)
        return best

    def _stripes(self, x: Tensor, stream: str) -> Tensor:
        """A start under linf: every column of every channel on one face of the ball."""
        signs = _signs(noise.uniform(x, f"{stream}/start", (x.shape[1], 1, x.shape[3])))
        return (x + self.threat.eps * signs).clamp(0.0, 1.0)

    def _tiles(self, x: Tensor, stream: str) -> Tensor:
        """A start under l2 and l1: some five by five tiles, each with its pattern."""
        count, channels, height, width = x.shape
        side = max(min(height, width) // 5, 1)
        down, across = height // side, width // side
        turned = noise.uniform(x, f"{stream}/turned", (down, across)) < 0.5
        signs = _signs(noise.uniform(x, f"{stream}/start", (channels, down, across)))
        pattern = self._pattern(side, x)[turned.long()]  # [B, down, across, side, side]
        tiles = signs[..., None, None] * pattern[:, None]
        tiles = tiles.transpose(3, 4).reshape(count, channels, down * side, across * side)
        top, left = (height - down * side) // 2, (width - across * side) // 2
        delta = torch.zeros_like(x)
        delta[:, :, top : top + down * side, left : left + across * side] = tiles
        return self._stretch(x, delta)

    def _side(self, x: Tensor, query: int) -> int:
        """How long the sides of squares are at a query."""
        height, width = x.shape[2:]
        share = self.p / 2 ** sum(query > after for after in _HALVINGS)
        side = max(round(math.sqrt(share * height * width)), 1)
        if self.threat.norm != "linf":
            side = max(side, 3)
            side += side % 2 == 0
        return min(side, height, width)

    def _propose(self, x: Tensor, best: Tensor, query: int, numbers: Tensor) -> Tensor:
        """The next points [B, C, H, W] to ask about; numbers: [B, 5 + C] in [0, 1)."""
        side = self._side(x, query)
        here = _window(x, side, numbers[:, 0], numbers[:, 1])
        signs = _signs(numbers[:, 5:])[:, :, None, None]
        if self.threat.norm == "linf":
            proposed = best.clone()
            proposed[here] = (x[here] + self.threat.eps * signs).clamp(0.0, 1.0)
            return proposed
        there = _window(x, side, numbers[:, 2], numbers[:, 3])
        turned = (numbers[:, 4] < 0.5).long()
        return self._shift_budget(x, best, here, there, signs * self._pattern(side, x)[turned][:, None])

    def _shift_budget(self, x: Tensor, best: Tensor, here: Window, there: Window, pattern: Tensor) -> Tensor:
        """Clear two squares and paint the first with the pattern, at the length both had and what eps had left."""
        channels, order = x.shape[1], self._order
        delta = best - x
        left = (self.threat.eps**order - self._mass(delta).sum(dim=1, keepdim=True)).clamp_min(0)
        old, old_mass = delta[here], self._mass(delta[here])
        delta[here] = 0
        freed = old_mass + self._mass(delta[there])
        delta[there] = 0
        fresh = pattern + old / (_TINY + old_mass ** (1 / order))
        length = (left / channels + freed) ** (1 / order)
        if order == 1:
            length = length * channels  # as the reference; the projection takes the excess off again
        delta[here] = fresh * (length / (_TINY + self._mass(fresh) ** (1 / order)))
        return self._stretch(x, delta)

    def _stretch(self, x: Tensor, delta: Tensor) -> Tensor:
        """Images on the l2 sphere, cut to the box; under l1 the nearest images in ball and box."""
        if self.threat.norm == "l1":
            return self.threat.confine(x, x + delta)
        length = self.threat.distance(torch.zeros_like(x), delta)
        return (x + delta * per_image(self.threat.eps / (length + _TINY), x)).clamp(0.0, 1.0)

    @property
    def _order(self) -> int:
        return 2 if self.threat.norm == "l2" else 1

    def _mass(self, delta: Tensor) -> Tensor:
        """[B, C, 1, 1] sum of squares, or under l1 of magnitudes, per channel."""
        return delta.abs().pow(self._order).sum(dim=(2, 3), keepdim=True)

    def _pattern(self, side: int, x: Tensor) -> Tensor:
        """[2, side, side] of length 1: a positive above a negative bump, and the same turned on its side."""
        upper, lower = (_bump(height, side, self._order, x) for height in (side // 2, side - side // 2))
        pattern = torch.cat([upper, -lower])
        pattern = pattern / pattern.norm(p=self._order)
        return torch.stack([pattern, pattern.T])


def _bump(height: int, width: int, order: int, like: Tensor) -> Tensor:
    """[height, width] of length 1 that falls off from the middle in square rings.

    Ring r is the sum of 1/k^2 (under l1: 1/k^4) over k > r, up to the last ring.
    """
    rows = (torch.arange(height, device=like.device) - height // 2).abs()
    columns = (torch.arange(width, device=like.device) - width // 2).abs()
    terms = torch.arange(1, max(height, width) // 2 + 2, device=like.device, dtype=like.dtype) ** (-4 / order)
    rings = terms.flip(0).cumsum(0).flip(0)
    bump = rings[torch.maximum(rows[:, None], columns[None, :])]
    return bump / bump.norm(p=order)


def _signs(numbers: Tensor) -> Tensor:
    """-1 or 1 from uniform numbers in [0, 1)."""
    return (numbers < 0.5).to(numbers.dtype) * 2 - 1


def _window(x: Tensor, side: int, down: Tensor, across: Tensor) -> Window:
    """Squares in x [B, C, H, W] at places that uniform numbers ``down`` and ``across`` [B] choose."""
    count, channels, height, width = x.shape
    steps = torch.arange(side, device=x.device)
    top = (down * (height - side + 1)).long().clamp_max(height - side)  # half precision can round up to 1
    left = (across * (width - side + 1)).long().clamp_max(width - side)
    return (
        torch.arange(count, device=x.device)[:, None, None, None],
        torch.arange(channels, device=x.device)[None, :, None, None],
        (top[:, None] + steps)[:, None, :, None],
        (left[:, None] + steps)[:, None, None, :],
    )
