"""The attack of Carlini and Wagner (arXiv:1608.04644): Adam on pixels that cannot leave their box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.attacks.base import Attack, LabelLoss, Labels, Search, where_image
from modules.perturb.ascent import slope
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Threat
from modules.units import Pixels

_BETA1, _BETA2, _TINY = 0.9, 0.999, 1e-8  # Adam's
_INSIDE = 0.999  # how near to the walls of the box an image may start: on them tanh has no slope


@dataclass
class _State:
    """Everything CW carries per image; tensors are [B, ...]."""

    x: Tensor
    start: Tensor  # where every search starts, in free coordinates
    middle: Tensor  # of the box
    half: Tensor  # width of the box
    u: Tensor  # free coordinates; mid-box they move as far as the pixels do
    mean: Tensor  # Adam's
    square: Tensor  # Adam's
    c: Tensor  # [B] weight of the margin
    too_small: Tensor  # [B] largest c that failed
    enough: Tensor  # [B] smallest c that worked
    hit: Tensor  # [B] bool, in the second half of this search: a random start may be misclassified by itself
    best: Tensor
    best_score: Tensor  # [B]

    def select(self, keep: Tensor) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[keep])

    def pixels(self, u: Tensor) -> Tensor:
        return (self.middle + self.half * torch.tanh(u / self.half)).clamp(0.0, 1.0)  # against rounding

    def restart(self) -> None:
        self.u = self.start.clone()
        self.mean, self.square = torch.zeros_like(self.u), torch.zeros_like(self.u)
        self.hit = torch.zeros_like(self.hit)

    def search_on(self) -> None:
        """The next c: a larger one where this failed, a smaller one where it worked, in factors."""
        self.enough = torch.where(self.hit, self.c, self.enough)
        self.too_small = torch.where(self.hit, self.too_small, self.c)
        between = (self.too_small * self.enough).sqrt()
        lower = torch.where(self.too_small == 0, self.enough / 10, between)
        self.c = torch.where(self.enough.isinf(), self.too_small * 10, lower)


class CW(Attack):
    """Carlini and Wagner's attack (arXiv:1608.04644): the margin loss, Adam, and tanh in place of a projection.

    Under l2 it looks for the nearest misclassified image: it minimises distance^2 + c * max(0, confidence - margin)
    with a search over c per image, and what lies beyond eps does not count.  Under linf the tanh runs over what ball
    and box have in common, so that every point is allowed, and the margin alone is ascended.

    Differs from the paper: the step falls linearly to zero, c is searched in factors, the start is random, and under
    linf nothing shrinks the ball.  Pixels that are exactly 0 or 1 hardly move under l2, as in the paper.
    ``perturb`` takes any loss under linf; under l2 a loss that is above ``confidence`` where the attack has succeeded.

    Args:
        threat: the ball, linf or l2.
        steps: of Adam, per search.
        step_size: of the first step, in [0, 1] pixels: under linf what a pixel moves, under l2 the length of the move
            of all pixels; by default a quarter of eps.
        confidence: the margin to reach under l2 (the paper's kappa).
        searches: values of c tried per image under l2.
        random_start: start uniformly in the ball, not at the image.
        restarts: independent runs.

    Raises:
        ValueError: another norm, or settings out of range.
    """

    def __init__(
        self,
        threat: Threat,
        /,
        *,
        steps: int = 100,
        step_size: Pixels | None = None,
        confidence: float = 0.0,
        searches: int = 6,
        random_start: bool = True,
        restarts: int = 1,
    ) -> None:
        super().__init__(threat, restarts=restarts)
        if threat.norm not in ("linf", "l2"):
            raise ValueError(f"CW works under linf and l2, not {threat.norm}; use APGD or FAB")
        if steps < 1 or searches < 1 or confidence < 0 or (step_size is not None and step_size <= 0):
            raise ValueError(
                "CW takes steps and searches >= 1, step_size > 0 and confidence >= 0, "
                f"not steps={steps}, searches={searches}, step_size={step_size}, confidence={confidence}"
            )
        self.steps, self.step_size, self.confidence = steps, step_size, confidence
        self.searches, self.random_start = searches, random_start

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """The margin."""
        return [(margin, (y,))]

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        state = self._begin(x, stream)
        for _ in range(self.searches if self.threat.norm == "l2" else 1):
            state.restart()
            for i in range(self.steps):
                keep = loss.narrow() if isinstance(loss, Search) else None
                if keep is not None:
                    state.select(keep)
                if len(state.x) == 0:
                    return state.x
                self._step(loss, state, i)
            state.search_on()
        found = where_image(state.best_score.isfinite(), state.best, state.pixels(state.u))
        return self.threat.confine(state.x, found)

    def _begin(self, x: Tensor, stream: str) -> _State:
        low, high = torch.zeros_like(x), torch.ones_like(x)
        if self.threat.norm == "linf":
            low, high = (x - self.threat.eps).clamp_min(0.0), (x + self.threat.eps).clamp_max(1.0)
        middle, half = (low + high) / 2, (high - low) / 2
        start = (x + self.threat.sample(x, stream)).clamp(0.0, 1.0) if self.random_start else x
        u = half * torch.atanh(((start - middle) / half).clamp(-_INSIDE, _INSIDE))
        ones = torch.ones(len(x), device=x.device, dtype=x.dtype)
        return _State(
            x=x,
            start=u,
            middle=middle,
            half=half,
            u=u,
            mean=u,
            square=u,
            c=ones,
            too_small=0 * ones,
            enough=torch.inf * ones,
            hit=torch.zeros_like(ones, dtype=torch.bool),
            best=x,
            best_score=-torch.inf * ones,
        )

    def _step(self, loss: Loss, state: _State, i: int) -> None:
        with torch.enable_grad():
            u = state.u.detach().requires_grad_()
            point = state.pixels(u)
            value = loss(point)
            grad = slope(self._objective(state, point, value), u)
        self._keep_best(state, point.detach(), value.detach(), settled=2 * i >= self.steps)
        state.mean = _BETA1 * state.mean + (1 - _BETA1) * grad
        state.square = _BETA2 * state.square + (1 - _BETA2) * grad.square()
        direction = state.mean / (1 - _BETA1 ** (i + 1))
        scale = (state.square / (1 - _BETA2 ** (i + 1))).sqrt() + _TINY
        state.u = state.u - self._step_length(u) * (1 - i / self.steps) * direction / scale

    def _objective(self, state: _State, point: Tensor, value: Tensor) -> Tensor:
        """[B] what Adam minimises."""
        if self.threat.norm == "linf":
            return -value
        distance = (point - state.x).flatten(1).square().sum(dim=1)
        return distance + state.c * (self.confidence - value).clamp_min(0.0)

    def _keep_best(self, state: _State, point: Tensor, value: Tensor, *, settled: bool) -> None:
        score = value
        if self.threat.norm == "l2":
            hit = value > self.confidence
            state.hit = state.hit | hit & settled
            score = torch.where(hit, -self.threat.distance(state.x, point), -torch.inf)
        better = score > state.best_score
        state.best = where_image(better, point, state.best)
        state.best_score = torch.where(better, score, state.best_score)

    def _step_length(self, x: Tensor) -> float:
        """What one coordinate moves in the first step: Adam moves all of them about equally far."""
        length = self.step_size or self.threat.eps / 4
        return length if self.threat.norm == "linf" else length / x[0].numel() ** 0.5
