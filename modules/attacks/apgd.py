"""Auto-PGD (arXiv:2003.01690, for l1 arXiv:2103.01208): PGD that sets its own step size."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from modules.attacks.apgd_steps import Climb, DenseClimb, SparseClimb
from modules.attacks.base import Attack, LabelLoss, Labels, Search, likeliest_targets
from modules.choices import check_choice
from modules.perturb.ascent import slope
from modules.perturb.losses import LABEL_LOSSES, Loss, targeted_dlr
from modules.perturb.threat import Threat

APGDLoss = Literal["ce", "dlr", "margin", "dlr_targeted", "margin_targeted"]
_CLASSES_NEEDED: dict[APGDLoss, int] = {"dlr": 3, "dlr_targeted": 4}
_Climb = TypeVar("_Climb", bound=Climb)


def targeted_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """[B] logit of ``target`` [B] minus the label's: what is left of targeted DLR where it has too few classes."""
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


class APGD(Attack):
    """Auto-PGD, algorithm 1 of arXiv:2003.01690, with the reference's checkpoints and tie-breaking.

    Under l1 the sparse steps of arXiv:2103.01208, by default first in larger balls.  There an entry counts as changed
    if it differs from the image's; the reference also counts some that only rounding moved.

    Args:
        threat: the ball.
        loss: ``ce``, ``dlr`` (3 classes or more), ``margin``; ``dlr_targeted`` (4 or more) and ``margin_targeted``
            make one run per target.
        steps: gradient steps per run.
        targets: for targeted losses, how many of the most likely wrong classes to aim at, one after the other.
        restarts: independent runs (of every target).
        random_start: start at a random point of the ball's surface, not at the image.
        larger_eps: spend 30 % of the steps in a ball three times as large and 30 % in one twice as large, so that the
            ball is entered from outside, at a point that is misclassified already; by default under l1 alone, as the
            reference.  Under l2 it finds tips of misclassified regions that attacks from inside do not.
    """

    def __init__(
        self,
        threat: Threat,
        /,
        *,
        loss: APGDLoss = "ce",
        steps: int = 100,
        targets: int = 9,
        restarts: int = 1,
        random_start: bool = True,
        larger_eps: bool | None = None,
    ) -> None:
        check_choice("loss", loss, APGDLoss)
        super().__init__(threat, restarts=restarts)
        if steps < 1 or targets < 1:
            raise ValueError(f"APGD takes at least one step and one target, not {steps} and {targets}")
        self.loss: APGDLoss = loss
        self.steps, self.targets = steps, targets
        self.random_start = random_start
        self.larger_eps = threat.norm == "l1" if larger_eps is None else larger_eps

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """The configured loss; for targeted ones one per target, ranked by the clean logits.

        Raises:
            ValueError: the loss needs more classes.
        """
        needed = _CLASSES_NEEDED.get(self.loss, 2)
        if logits.shape[1] < needed:
            raise ValueError(f"loss {self.loss!r} needs at least {needed} classes, not {logits.shape[1]}; use 'ce'")
        if self.loss == "ce" or self.loss == "dlr" or self.loss == "margin":
            return [(LABEL_LOSSES[self.loss], (y,))]
        loss = targeted_dlr if self.loss == "dlr_targeted" else targeted_margin
        return [(loss, (y, target)) for target in likeliest_targets(logits, y, self.targets)]

    def suited(self, classes: int) -> tuple[Attack, list[str]]:
        """With too few classes for DLR a margin stands in for it; there are no more targets than wrong classes."""
        twin, changes = copy.copy(self), []
        if classes < _CLASSES_NEEDED.get(self.loss, 2):
            twin.loss = "margin" if self.loss == "dlr" else "margin_targeted"
            changes.append(f"ascended the loss {twin.loss!r}: {classes} classes are too few for DLR")
        if self.loss.endswith("targeted") and self.targets > classes - 1:
            twin.targets = classes - 1
            changes.append(f"had {classes - 1} targets instead of {self.targets}: there are {classes} classes")
        return twin, changes

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        """A climb in each ball, the next from the best point of the last."""
        early = min(math.ceil(0.3 * self.steps), (self.steps - 1) // 2) if self.larger_eps else 0
        threats = [(replace(self.threat, eps=k * self.threat.eps), early) for k in (3, 2)]
        threats = [*threats, (self.threat, self.steps - 2 * early)] if early else [(self.threat, self.steps)]
        point = (x + threats[0][0].sample_far(x, stream)).clamp(0.0, 1.0) if self.random_start else x
        for threat, steps in threats:
            if len(x) == 0:
                break
            if early or self.threat.norm == "l1":
                point = threat.confine(x, point)
            value, grad = _value_and_grad(loss, point)
            if threat.norm == "l1":
                climb: Climb = SparseClimb(threat, x, point, value, grad, steps=steps, fresh=early == 0)
            else:
                climb = DenseClimb(threat, x, point, value, grad, steps=steps)
            climb = _run(climb, loss, steps)
            x, point = climb.x, climb.best
        return point

    def _perturb_from(self, loss: Loss, x: Tensor, start: Tensor) -> Tensor:
        """The same climb from a point that is good already, with strides a quarter as long."""
        if self.threat.norm == "l1":
            climb = SparseClimb(self.threat, x, start, *_value_and_grad(loss, start), steps=self.steps, fresh=False)
            return _run(climb, loss, self.steps).best
        climb = DenseClimb(self.threat, x, start, *_value_and_grad(loss, start), steps=self.steps)
        climb.step = climb.step / 4
        return _run(climb, loss, self.steps).best


def _run(climb: _Climb, loss: Loss, steps: int) -> _Climb:
    for i in range(steps):
        keep = loss.narrow() if isinstance(loss, Search) else None
        if keep is not None:
            climb.select(keep)
        if len(climb.x) == 0:
            break
        climb.move(i)
        climb.arrive(i, *_value_and_grad(loss, climb.point))
    return climb


def _value_and_grad(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = loss(leaf)
        return value.detach(), slope(value, leaf)
