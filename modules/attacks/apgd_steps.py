"""How Auto-PGD moves and when it changes its stride: dense steps for linf and l2, sparse ones for l1."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from modules.attacks.base import where_image
from modules.perturb.threat import Threat, per_image


class Climb(ABC):
    """One run of Auto-PGD over a batch; every tensor it holds has the images first.

    Args:
        threat: the ball of this run.
        x: [B, C, H, W] the images.
        point: [B, C, H, W] where to start.
        value: [B] the loss there.
        grad: [B, C, H, W] its gradient.
    """

    def __init__(self, threat: Threat, x: Tensor, point: Tensor, value: Tensor, grad: Tensor) -> None:
        self.threat, self.x, self.point, self.grad = threat, x, point, grad
        self.best, self.best_value, self.best_grad = point, value, grad

    def select(self, keep: Tensor) -> None:
        """Go on with the images ``keep`` [B] bool only."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[keep])

    @abstractmethod
    def move(self, i: int) -> None:
        """Step ``i``: set ``point``."""

    def arrive(self, i: int, value: Tensor, grad: Tensor) -> None:
        """Take note of loss [B] and gradient [B, C, H, W] at ``point``, and revise the stride where that is due."""
        self.grad = grad
        better = value > self.best_value
        self.best = where_image(better, self.point, self.best)
        self.best_grad = where_image(better, grad, self.best_grad)
        self.best_value = torch.where(better, value, self.best_value)

    def _return_to_best(self, chosen: Tensor) -> None:
        self.point = where_image(chosen, self.best, self.point)
        self.grad = where_image(chosen, self.best_grad, self.grad)


class DenseClimb(Climb):
    """Steepest ascent with momentum, algorithm 1 of arXiv:2003.01690, with the reference's checkpoints."""

    def __init__(self, threat: Threat, x: Tensor, point: Tensor, value: Tensor, grad: Tensor, *, steps: int) -> None:
        super().__init__(threat, x, point, value, grad)
        self.previous = point
        self.step = torch.full((len(x),), 2 * threat.eps, device=x.device, dtype=x.dtype)
        self.checked_value = value  # the best at the last checkpoint
        self.halved = torch.ones(len(x), dtype=torch.bool, device=x.device)  # at the last checkpoint
        self.history = torch.zeros(len(x), steps, device=x.device, dtype=value.dtype)
        self.period = max(int(0.22 * steps), 1)
        self.shrink, self.shortest = max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)
        self.since_check = 0

    def move(self, i: int) -> None:
        """Along the steepest direction, with a quarter of the last step as momentum."""
        momentum = 0.75 if i else 1.0
        inertia = self.point - self.previous
        self.previous = self.point
        step = per_image(self.step, self.x) * self.threat.steepest(self.grad)
        stepped = self.threat.confine(self.x, self.point + step)
        mixed = self.point + (stepped - self.point) * momentum + inertia * (1 - momentum)
        self.point = self.threat.confine(self.x, mixed)

    def arrive(self, i: int, value: Tensor, grad: Tensor) -> None:
        """Checkpoints come ever closer together."""
        super().arrive(i, value, grad)
        self.history[:, i] = value
        self.since_check += 1
        if self.since_check == self.period:
            self._checkpoint(i)
            self.since_check, self.period = 0, max(self.period - self.shrink, self.shortest)

    def _checkpoint(self, i: int) -> None:
        """Halve the step, and go back to the best point, where the loss oscillates or has stopped to improve.

        At the first checkpoint the comparison for step 0 meets the history's last entry, still zero: the reference
        does so.
        """
        recent = torch.arange(i - self.period + 1, i + 1)
        rises = (self.history[:, recent] > self.history[:, recent - 1]).sum(dim=1)
        stalled = ~self.halved & (self.checked_value >= self.best_value)
        halve = (rises <= 0.75 * self.period) | stalled
        self.halved, self.checked_value = halve, self.best_value
        self.step = torch.where(halve, self.step / 2, self.step)
        self._return_to_best(halve)


class SparseClimb(Climb):
    """Sparse steps for l1, algorithm 2 of arXiv:2103.01208: only the entries of largest derivative move.

    How many follows from how many entries the best point has changed: two thirds of them.  Where that number still
    falls, the step goes back to full length and the search back to the best point; elsewhere the step shrinks.

    Args:
        threat: an l1 ball.
        x: [B, C, H, W] the images.
        point: [B, C, H, W] where to start.
        value: [B] the loss there.
        grad: [B, C, H, W] its gradient.
        steps: how many there will be.
        fresh: ``point`` is random and says nothing on how many entries to change; start with a fifth of all.
    """

    def __init__(
        self, threat: Threat, x: Tensor, point: Tensor, value: Tensor, grad: Tensor, *, steps: int, fresh: bool
    ) -> None:
        super().__init__(threat, x, point, value, grad)
        dimensions = x[0].numel()
        self.changed = torch.full_like(value, dimensions) if fresh else self._changed()
        self.share = torch.full_like(value, 0.2) if fresh else self.changed / dimensions / 1.5
        self.step = torch.full_like(value, threat.eps)
        self.period = max(int(0.04 * steps), 1)

    def move(self, i: int) -> None:
        """The same length in every entry among the share of largest derivatives; no momentum."""
        size = self.grad.flatten(1).abs()
        dimensions = size.shape[1]
        rank = ((1 - self.share) * dimensions).clamp(0, dimensions - 1).long()
        smallest = size.sort(dim=1).values.gather(1, rank[:, None])
        direction = (self.grad.flatten(1) * (size >= smallest)).sign()
        step = self.step[:, None] * direction / direction.abs().sum(dim=1, keepdim=True).clamp_min(1e-10)
        self.point = self.threat.confine(self.x, self.point + step.view_as(self.x).to(self.x.dtype))

    def arrive(self, i: int, value: Tensor, grad: Tensor) -> None:
        """A checkpoint after every 4 % of the steps."""
        super().arrive(i, value, grad)
        if (i + 1) % self.period == 0:
            changed, eps = self._changed(), self.threat.eps
            sparser = changed < 0.95 * self.changed
            self.share = changed / self.x[0].numel() / 1.5
            self.step = torch.where(sparser, eps, (self.step / 1.5).clamp(eps / 10, eps))
            self.changed = changed
            self._return_to_best(sparser)

    def _changed(self) -> Tensor:
        """[B] how many entries the best point has changed."""
        return (self.best != self.x).flatten(1).sum(dim=1).to(self.best_value.dtype)
