"""Auto-PGD (arXiv:2003.01690): PGD that sets its own step size, on cross-entropy and the DLR losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from modules.attacks.base import Attack, LabelLoss, Labels, Search, where_image
from modules.perturb.losses import LABEL_LOSSES, Loss, targeted_dlr
from modules.perturb.threat import Threat, per_image


@dataclass
class _State:
    """Everything APGD carries per image; tensors are [B, ...]."""

    x: Tensor  # the images
    point: Tensor
    previous: Tensor
    grad: Tensor
    step: Tensor  # [B]
    best: Tensor
    best_grad: Tensor
    best_value: Tensor  # [B]
    checked_value: Tensor  # [B] best value at the last checkpoint
    halved: Tensor  # [B] bool, at the last checkpoint
    history: Tensor  # [steps, B] loss of every iterate

    def select(self, keep: Tensor) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[:, keep] if name == "history" else value[keep])


class APGD(Attack):
    """Auto-PGD, algorithm 1 of arXiv:2003.01690, with the reference's checkpoints and tie-breaking.

    Args:
        threat: the ball.
        loss: ``ce``, ``dlr`` (3 classes or more) or ``dlr_targeted`` (4 or more; one run per target).
        steps: gradient steps per run.
        targets: for ``dlr_targeted``, how many of the most likely wrong classes to aim at, one after the other.
        restarts: independent runs (of every target).
    """

    def __init__(
        self,
        threat: Threat,
        /,
        *,
        loss: Literal["ce", "dlr", "dlr_targeted"] = "ce",
        steps: int = 100,
        targets: int = 9,
        restarts: int = 1,
    ) -> None:
        super().__init__(threat, restarts=restarts)
        if steps < 1 or targets < 1:
            raise ValueError(f"APGD takes at least one step and one target, not {steps} and {targets}")
        self.loss: Literal["ce", "dlr", "dlr_targeted"] = loss
        self.steps, self.targets = steps, targets

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """The configured loss; for ``dlr_targeted`` one per target, ranked by the clean logits."""
        if self.loss != "dlr_targeted":
            return [(LABEL_LOSSES[self.loss], (y,))]
        ranked = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
        count = min(self.targets, logits.shape[1] - 1)
        return [(targeted_dlr, (y, ranked[:, rank])) for rank in range(count)]

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        state = self._start(loss, x, stream)
        period = max(int(0.22 * self.steps), 1)
        shrink, shortest = max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1)
        since_check = 0
        for i in range(self.steps):
            self._shrink_to_standing(loss, state)
            if len(state.x) == 0:
                break
            self._move(state, momentum=0.75 if i else 1.0)
            value, state.grad = _value_and_grad(loss, state.point)
            state.history[i] = value
            self._keep_best(state, value)
            since_check += 1
            if since_check == period:
                _checkpoint(state, i, period)
                since_check, period = 0, max(period - shrink, shortest)
        return state.best

    def _start(self, loss: Loss, x: Tensor, stream: str) -> _State:
        point = (x + self.threat.sample_far(x, stream)).clamp(0.0, 1.0)
        value, grad = _value_and_grad(loss, point)
        return _State(
            x=x,
            point=point,
            previous=point,
            grad=grad,
            step=torch.full((len(x),), 2 * self.threat.eps, device=x.device, dtype=x.dtype),
            best=point,
            best_grad=grad,
            best_value=value,
            checked_value=value,
            halved=torch.ones(len(x), dtype=torch.bool, device=x.device),
            history=torch.zeros(self.steps, len(x), device=x.device, dtype=value.dtype),
        )

    def _move(self, state: _State, momentum: float) -> None:
        inertia = state.point - state.previous
        state.previous = state.point
        step = per_image(state.step, state.x) * self.threat.steepest(state.grad)
        stepped = self.threat.confine(state.x, state.point + step)
        mixed = state.point + (stepped - state.point) * momentum + inertia * (1 - momentum)
        state.point = self.threat.confine(state.x, mixed)

    @staticmethod
    def _keep_best(state: _State, value: Tensor) -> None:
        better = value > state.best_value
        state.best = where_image(better, state.point, state.best)
        state.best_grad = where_image(better, state.grad, state.best_grad)
        state.best_value = torch.where(better, value, state.best_value)

    @staticmethod
    def _shrink_to_standing(loss: Loss, state: _State) -> None:
        keep = loss.narrow() if isinstance(loss, Search) else None
        if keep is not None:
            state.select(keep)


def _value_and_grad(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = loss(leaf)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), grad


def _checkpoint(state: _State, i: int, period: int) -> None:
    """Halve the step, and go back to the best point, where the loss oscillates or has stopped to improve.

    At the first checkpoint the comparison for step 0 meets the history's last row, still zero: the reference does so.
    """
    rows = torch.arange(i - period + 1, i + 1)
    rises = (state.history[rows] > state.history[rows - 1]).sum(dim=0)
    stalled = ~state.halved & (state.checked_value >= state.best_value)
    halve = (rises <= 0.75 * period) | stalled
    state.halved, state.checked_value = halve, state.best_value
    state.step = torch.where(halve, state.step / 2, state.step)
    state.point = where_image(halve, state.best, state.point)
    state.grad = where_image(halve, state.best_grad, state.grad)
