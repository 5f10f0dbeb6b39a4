"""The worst point ever looked at: what attacks ascend, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from modules import noise
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Threat

Classifier = Callable[[Tensor], Tensor]
"""Pixels [B, 3, H, W] in [0, 1] -> logits [B, K]; where it differs from sample to sample, a ``PerSample``."""


@runtime_checkable
class PerSample(Protocol):
    """A classifier that knows something about each sample of a batch beside its pixels."""

    def of(self, index: Tensor) -> Classifier:
        """The classifier of the samples at ``index`` [B'] int64."""
        ...


Labels = tuple[Tensor, ...]
"""What a label loss looks at beside the logits, each [B]: the label, and for targeted losses the target."""

LabelLoss = Callable[..., Tensor]
"""(logits [B, K], *labels) -> one value per image [B]."""


class Search:
    """A loss on labels that keeps, for every image, the point that fools the classifier most.

    Attacks ascend it like any per-image loss; whatever they ask about inside ball and box is a candidate, so no
    attack can lose an adversarial it has found.

    Args:
        looks: classifiers whose losses are averaged, mostly one.
        x: [B, C, H, W] the images.
        y: [B] labels.
        threat: the ball.
        draws: looks at fresh noise that every loss is averaged over (expectation over transformation).
        compact: leave out images once they fool the classifier, and aim at several targets at once where few are left.
            Cheaper; the points found lie just behind the decision boundary and are of no use against other defences.
            Not for batch-coupled classifiers.
        judge: what really decides, where ``looks`` only stand in for it; asked at every ``judge_every``-th point.
        penalty: pixels -> [B], taken off every loss: what an attacker has to avoid beside being right.
        refused: pixels -> [B], positive where an image gets no answer (a detector's gate); only points that fool the
            classifier *and* are answered count as found.
        judge_every: see ``judge``.
        guides: for each class a picture [K, C, H, W] that is surely taken for it; NaN where there is none.
        snap: (images, points) -> points of which the judge is asked too, such as pictures of 8 bits.
        candidates: points [B, C, H, W] known from elsewhere, such as another encoder's adversarials; they are looked at
            first, and attacks that can make one more run from the worst point known.

    Attributes:
        worst: [B, C, H, W] the candidate with the largest margin over the label, at first the images themselves.
        margin: [B] that margin; positive where the classifier is fooled.  Where images can be refused, the smaller of
            margin and distance from refusal.
        index: [B'] the images the attack still works on, a row each; of several goals side by side, a row per goal.
        lane: [B'] the number of the goal that a row is for.
        clean: [B, K] logits of the images themselves, once ``begin`` was called.
        salt: prefix of the names of random numbers; tells apart attacks that share a search.
        notes: what an attack had to do otherwise than told, in words.
        fallen: for each member of an ensemble, how many images it was the first to fool.
    """

    def __init__(
        self,
        looks: Classifier | Sequence[Classifier],
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        draws: int = 1,
        compact: bool = False,
        judge: Classifier | None = None,
        penalty: Loss | None = None,
        refused: Loss | None = None,
        judge_every: int = 5,
        snap: Callable[[Tensor, Tensor], Tensor] | None = None,
        guides: Tensor | None = None,
        candidates: Sequence[Tensor] = (),
    ) -> None:
        self.looks: tuple[Classifier, ...] = tuple(looks) if isinstance(looks, Sequence) else (looks,)
        self.x, self.y, self.threat = x, y, threat
        self.draws, self.compact = draws, compact
        self.judge, self.penalty, self.judge_every = judge, penalty, judge_every
        self.refused, self.snap, self.guides = refused, snap, guides
        self.candidates = tuple(candidates)
        self.worst = x.clone()
        self.margin = torch.full((len(x),), -torch.inf, device=x.device)
        self.clean = torch.empty(len(x), 0)
        self.salt = ""
        self.notes: list[str] = []
        self.fallen: dict[str, int] = {}
        self._scope = noise.scope()
        self._calls = 0
        self._asked = 0
        self.aim(margin, (y,))

    @torch.no_grad()
    def begin(self) -> None:
        """Look at the images themselves, and at the candidates."""
        self.aim(margin, (self.y,))
        self._stand_on(torch.arange(len(self.x), device=self.x.device))
        self.clean = self.logits(self.x, judged=True)
        for candidate in self.candidates:
            self.logits(candidate, judged=True)

    def aim(self, loss: LabelLoss, *goals: Labels, first: int = 0) -> None:
        """Ascend another label loss from now on, at first over all images that are still standing.

        Args:
            loss: on labels.
            goals: the labels; of several goals, every image stands in a row for each of them.
            first: number of the first goal.
        """
        self.loss, self._first, self._goals = loss, first, len(goals)
        self.labels = goals[0] if len(goals) == 1 else tuple(map(torch.cat, zip(*goals, strict=True)))
        index = torch.arange(len(self.x), device=self.x.device)
        self._stand_on(index[self.margin <= 0] if self.compact else index)

    def _stand_on(self, index: Tensor) -> None:
        self.index = index.repeat(self._goals)
        self.lane = torch.arange(self._goals, device=index.device).repeat_interleave(len(index)) + self._first

    def row_labels(self) -> Labels:
        """What the loss looks at beside the logits, each [B'], a row each."""
        place = self.index + len(self.x) * (self.lane - self._first)
        return tuple(label[place] for label in self.labels)

    def room(self) -> int:
        """How many goals may be aimed at side by side: no more rows than images came, and no answer changes.

        A judge is asked, and fresh noise drawn, by the number of a look, which must not depend on who still stands.
        """
        if not self.compact or self.draws > 1 or self.judge is not None:
            return 1
        return max(len(self.x) // max(int((self.margin <= 0).sum()), 1), 1)

    def __call__(self, x: Tensor, *, judged: bool = False) -> Tensor:
        """[B'] the label loss of the points x [B', C, H, W] of the images ``index``; remembers the points.

        Args:
            x: the points.
            judged: ask the judge about these, whatever their number.
        """
        labels = self.row_labels()
        answers = self._answers(x)
        self._remember(x.detach(), answers, judged=judged)
        value = torch.stack([self.loss(logits, *labels) for logits in answers]).mean(dim=0)
        return value if self.penalty is None else value - self._of_pixels(self.penalty, x)

    def logits(self, x: Tensor, *, judged: bool = False) -> Tensor:
        """[B', K] logits, averaged over looks and draws, of the points of ``index``; remembers the points."""
        answers = self._answers(x)
        self._remember(x.detach(), answers, judged=judged)
        return torch.stack(answers).mean(dim=0)

    def _answers(self, x: Tensor) -> list[Tensor]:
        """Logits of every look and draw, each [B', K]."""
        return [self._ask(look, x) for _ in range(self.draws) for look in self.looks]

    def _ask(self, look: Classifier, x: Tensor) -> Tensor:
        if isinstance(look, PerSample):
            look = look.of(self.index)
        with noise.back_to(self._scope), noise.subset(self.index):
            if self.draws == 1:
                return look(x)
            self._calls += 1
            with noise.redraw(x, self._calls):  # fresh noise at every look: the loss averages over draws
                return look(x)

    def _of_pixels(self, loss: Loss, x: Tensor) -> Tensor:
        with noise.back_to(self._scope), noise.subset(self.index):
            return loss(x)

    @torch.no_grad()
    def _remember(self, x: Tensor, answers: Sequence[Tensor], *, judged: bool) -> None:
        if answers[0].shape[1] < 2:
            raise ValueError("a model with 1 class is right whatever it sees; an attack needs 2 classes or more")
        self._asked += 1
        if self.judge is None:
            self._compare(x, answers)
        elif judged or self._asked % self.judge_every == 0:
            for point in [x] if self.snap is None else [x, self.snap(self.x[self.index], x)]:
                self._compare(point, [self._ask(self.judge, point) for _ in range(self.draws)])

    def _compare(self, x: Tensor, answers: Sequence[Tensor]) -> None:
        """Keep the points x of ``index`` that are worse than what is known, by the answers about them."""
        y = self.y[self.index]
        value = torch.stack([margin(logits.detach().float(), y) for logits in answers]).mean(dim=0)
        if not torch.isfinite(value).all():
            raise ValueError("the classifier returned logits that are not finite; its robustness is undefined")
        if self.refused is not None:
            value = torch.minimum(value, -self._of_pixels(self.refused, x).float())
        better = (value > self.margin[self.index]) & self.threat.contains(self.x[self.index], x)
        rows = better.nonzero().squeeze(1)
        if self._goals > 1:
            rows = _best_of_each(rows, self.index, value)
        self.worst[self.index[rows]] = x[rows]
        self.margin[self.index[rows]] = value[rows]

    def narrow(self) -> Tensor | None:
        """[B'] bool, which images to go on with, once a quarter of them has fallen; None to go on with all."""
        if not self.compact:
            return None
        standing = self.margin[self.index] <= 0
        if standing.float().mean() > 0.75:
            return None
        self.index, self.lane = self.index[standing], self.lane[standing]
        return standing


def _best_of_each(rows: Tensor, index: Tensor, value: Tensor) -> Tensor:
    """Of some rows [R], for every image among them the one with the largest value, the first of equals.

    Args:
        rows: int64, ascending.
        index: [B'] the image of each row.
        value: [B'] to compare.
    """
    rows = rows[value[rows].argsort(descending=True, stable=True)]
    rows = rows[index[rows].argsort(stable=True)]
    first = torch.ones_like(rows, dtype=torch.bool)
    first[1:] = index[rows[1:]] != index[rows[:-1]]
    return rows[first]
