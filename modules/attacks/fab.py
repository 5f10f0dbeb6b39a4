"""FAB (arXiv:1907.02044): the smallest perturbation that crosses the decision boundary."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from modules import noise
from modules.attacks.base import Attack, LabelLoss, Labels, Search, likeliest_targets, where_image
from modules.perturb.ascent import slope
from modules.perturb.hyperplane import step_to_hyperplane
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Threat, per_image

_DUAL_ORDER = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}


@dataclass
class _State:
    """Everything FAB carries per image; tensors are [B', ...]."""

    x: Tensor  # the images
    point: Tensor
    closest: Tensor  # misclassified point nearest to x so far; x where there is none
    distance: Tensor  # [B'] its distance; infinite where there is none

    def select(self, keep: Tensor) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[keep])


class FAB(Attack):
    """Fast adaptive boundary attack (arXiv:1907.02044), untargeted or, with ``targets``, FAB-T.

    Every step takes the decision boundary for a plane, walks onto it from the current point and from the image, mixes
    the two with a bias towards the image, and goes back towards the image where the classifier is fooled.  It looks
    for the smallest perturbation, so what it finds counts only where that is no longer than the threat's eps.

    The untargeted attack chooses the nearest of all boundaries, at one backward pass per class and step; with more than
    some 20 classes, as in the paper's section 4, ``targets`` is the way: one backward pass per step and target.

    Differs from the reference code: the gradients of all classes are never held at once; intermediate points count as
    found too; restarts draw uniformly from a ball of half min(distance found, eps), not from its surface.  FAB walks
    on logits and cannot see a search's ``penalty``; it then says so in the search's notes.

    Args:
        threat: the ball; FAB needs its norm, and eps only to judge and for restarts.
        steps: linearisations per run.
        restarts: runs (of every target); the first starts at the image, the others at random.
        targets: 0 for all boundaries at once; else how many of the most likely wrong classes to aim at in turn.
        alpha_max: largest bias towards the image.
        eta: overshoot beyond the plane.
        beta: what is left of the perturbation after a step back.
    """

    def __init__(
        self,
        threat: Threat,
        /,
        *,
        steps: int = 100,
        restarts: int = 1,
        targets: int = 0,
        alpha_max: float = 0.1,
        eta: float = 1.05,
        beta: float = 0.9,
    ) -> None:
        super().__init__(threat, restarts=restarts)
        if steps < 1 or targets < 0:
            raise ValueError(f"FAB takes at least one step and no negative targets, not steps={steps}, {targets=}")
        if not (0 <= alpha_max <= 1 and eta >= 1 and 0 < beta < 1):
            raise ValueError(
                f"FAB takes alpha_max in [0, 1], eta >= 1 and 0 < beta < 1, not {alpha_max=}, {eta=}, {beta=}"
            )
        self.steps, self.targets = steps, targets
        self.alpha_max, self.eta, self.beta = alpha_max, eta, beta

    def suited(self, classes: int) -> tuple[Attack, list[str]]:
        """There are no more targets than wrong classes."""
        if self.targets <= classes - 1:
            return self, []
        twin = copy.copy(self)
        twin.targets = classes - 1
        return twin, [f"had {classes - 1} targets instead of {self.targets}: there are {classes} classes"]

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """What is negative on the image's side of a boundary: the margin, or one lead per target ranked by logits."""
        if self.targets == 0:
            return [(margin, (y,))]
        return [(_lead, (y, target)) for target in likeliest_targets(logits, y, self.targets)]

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> NoReturn:
        raise ValueError("FAB crosses decision boundaries and cannot ascend a loss without labels; use APGD for that")

    def _run(self, search: Search) -> None:
        if search.penalty is not None:
            search.notes.append("FAB looked for misclassified points without regard to the penalty")
        for loss, goals, first in self._goals(search):
            distance = search.x.new_full((len(goals), len(search.x)), torch.inf)  # of what was found
            for restart in range(self.restarts):
                search.aim(loss, *goals, first=first)
                if len(search.index) == 0:
                    return
                state = self._start(search, distance[search.lane - first, search.index], restart)
                self._approach(search, state)
                distance[search.lane - first, search.index] = state.distance

    def _start(self, search: Search, distance: Tensor, restart: int) -> _State:
        x = search.x[search.index]
        point = x
        if restart > 0:
            share = 0.5 * (distance / self.threat.eps).clamp_max(1.0).to(x.dtype)
            with noise.subset(search.index), noise.lanes(x, search.lane):
                random = self.threat.sample(x, f"{search.salt}0/{restart}")
            point = (x + per_image(share, x) * random).clamp(0.0, 1.0)
        return _State(x=x, point=point, closest=x, distance=distance)

    def _approach(self, search: Search, state: _State) -> None:
        """One run; the search remembers what it finds."""
        for _ in range(self.steps):
            keep = search.narrow()
            if keep is not None:
                state.select(keep)
            if len(state.x) == 0:
                return
            gap, normal = self._nearest_boundary(search, state.point)
            state.point = self._towards(state, gap, normal)
            with torch.no_grad():
                crossed = margin(search.logits(state.point), search.y[search.index]) > 0
            self._go_back(state, crossed)
        with torch.no_grad():
            search.logits(state.closest, judged=True)

    def _nearest_boundary(self, search: Search, point: Tensor) -> tuple[Tensor, Tensor]:
        """[B'] the lead of the rival nearest to overtake the label, and that lead's gradient [B', C, H, W]."""
        y, *target = search.row_labels()
        with torch.enable_grad():
            leaf = point.detach().requires_grad_()
            logits = search.logits(leaf).to(point.dtype)
            rivals = target[0][:, None] if target else _other_classes(y, logits.shape[1])
            leads = (logits.gather(1, rivals) - logits.gather(1, y[:, None])).unbind(dim=1)
        nearest = torch.full((len(point),), torch.inf, device=point.device, dtype=point.dtype)
        lead, normal = torch.zeros_like(nearest), torch.zeros_like(point)
        for rank, value in enumerate(leads):  # one gradient each; images do not mix
            grad, value = slope(value, leaf, retain_graph=rank + 1 < len(leads)), value.detach()
            steepness = torch.linalg.vector_norm(grad.flatten(1), ord=_DUAL_ORDER[self.threat.norm], dim=1)
            distance = value.abs() / (steepness + 1e-12)
            nearer = distance < nearest
            nearest = torch.where(nearer, distance, nearest)
            lead = torch.where(nearer, value, lead)
            normal = where_image(nearer, grad, normal)
        return lead, normal

    def _towards(self, state: _State, gap: Tensor, normal: Tensor) -> Tensor:
        """[B', C, H, W] a little beyond the plane, biased towards the image."""
        x, point, norm = state.x, state.point, self.threat.norm
        gap_at_image = gap + (normal * (x - point)).flatten(1).sum(dim=1)
        from_point = step_to_hyperplane(point, normal, gap, norm)
        from_image = step_to_hyperplane(x, normal, gap_at_image, norm)
        nothing = torch.zeros_like(x)
        near = self.threat.distance(nothing, from_point).clamp_min(1e-8)
        far = self.threat.distance(nothing, from_image).clamp_min(1e-8)
        alpha = per_image((near / (near + far)).clamp_max(self.alpha_max), x)
        mixed = (point + self.eta * from_point) * (1 - alpha) + (x + self.eta * from_image) * alpha
        return mixed.clamp(0.0, 1.0)

    def _go_back(self, state: _State, crossed: Tensor) -> None:
        """Note the closest misclassified points, and pull all misclassified ones towards the image."""
        distance = self.threat.distance(state.x, state.point)
        closer = crossed & (distance < state.distance)
        state.distance = torch.where(closer, distance, state.distance)
        state.closest = where_image(closer, state.point, state.closest)
        pulled = (state.x + self.beta * (state.point - state.x)).clamp(0.0, 1.0)
        state.point = where_image(crossed, pulled, state.point)


def _other_classes(y: Tensor, count: int) -> Tensor:
    """[B, count - 1] every class but the label, in order."""
    classes = torch.arange(count - 1, device=y.device)
    return classes + (classes >= y[:, None])


def _lead(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """[B] logit of the target less the label's."""
    return logits.gather(1, target[:, None]).squeeze(1) - logits.gather(1, y[:, None]).squeeze(1)
