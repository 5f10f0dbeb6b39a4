"""What every attack shares: the ball, the box, the restarts, and the worst point ever seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from modules import noise
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Threat, per_image

Classifier = Callable[[Tensor], Tensor]
"""Pixels [B, 3, H, W] in [0, 1] -> logits [B, K]."""

Labels = tuple[Tensor, ...]
"""What a label loss looks at beside the logits, each [B]: the label, and for targeted losses the target."""

LabelLoss = Callable[..., Tensor]
"""(logits [B, K], *labels) -> one value per image [B]."""


class Search:
    """A loss on labels that keeps, for every image, the point that fools the classifier most.

    Attacks ascend it like any per-image loss; whatever they ask about inside ball and box is a candidate, so no
    attack can lose an adversarial it has found.

    Attributes:
        worst: [B, C, H, W] the candidate with the largest margin over the label, at first the images themselves.
        margin: [B] that margin; positive where the classifier is fooled.
        index: [B'] the images the attack still works on.
    """

    def __init__(
        self,
        classifier: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        draws: int,
        compact: bool,
    ) -> None:
        self.classifier, self.x, self.y, self.threat = classifier, x, y, threat
        self.draws, self.compact = draws, compact
        self.worst = x.clone()
        self.margin = torch.full((len(x),), -torch.inf, device=x.device)
        self.index = torch.arange(len(x), device=x.device)
        self._scope = noise.scope()
        self._calls = 0
        self.aim(margin, (y,))

    def aim(self, loss: LabelLoss, labels: Labels) -> None:
        """Ascend another label loss from now on, at first over all images that are still standing."""
        self.loss, self.labels = loss, labels
        self.index = torch.arange(len(self.x), device=self.x.device)
        if self.compact:
            self.index = self.index[self.margin <= 0]

    def __call__(self, x: Tensor) -> Tensor:
        """[B'] the label loss of the points x [B', C, H, W] of the images ``index``; remembers the points."""
        labels = tuple(label[self.index] for label in self.labels)
        values, margins = [], []
        for _ in range(self.draws):
            logits = self._logits(x)
            values.append(self.loss(logits, *labels))
            margins.append(margin(logits.detach(), labels[0]))
        self._remember(x.detach(), torch.stack(margins).mean(dim=0))
        return torch.stack(values).mean(dim=0)

    def _logits(self, x: Tensor) -> Tensor:
        with noise.subset(self.index, of=self._scope):
            if self.draws == 1:
                return self.classifier(x)
            self._calls += 1
            with noise.redraw(x, self._calls):  # fresh noise at every look: the loss averages over draws
                return self.classifier(x)

    @torch.no_grad()
    def _remember(self, x: Tensor, value: Tensor) -> None:
        if not torch.isfinite(value).all():
            raise ValueError("the classifier returned logits that are not finite; its robustness is undefined")
        better = (value > self.margin[self.index]) & self.threat.contains(self.x[self.index], x)
        found = self.index[better]
        self.worst[found] = x[better]
        self.margin[found] = value[better]

    def narrow(self) -> Tensor | None:
        """[B'] bool, which images to go on with, once a quarter of them has fallen; None to go on with all."""
        if not self.compact:
            return None
        standing = self.margin[self.index] <= 0
        if standing.float().mean() > 0.75:
            return None
        self.index = self.index[standing]
        return standing


class Attack(ABC):
    """Perturbs images inside a threat.

    ``perturb`` ascends any per-image loss: training, two-alternative forced choice, gate evasion.  Calling the attack
    ascends its own label loss against a classifier, over all restarts, and returns the worst point ever looked at.
    Both results lie in ball and box whatever the attack does.

    Args:
        threat: the ball.
        restarts: independent runs; each works on the images that are still standing.
    """

    def __init__(self, threat: Threat, /, *, restarts: int = 1) -> None:
        if restarts < 1:
            raise ValueError(f"restarts is {restarts}; an attack runs at least once")
        self.threat, self.restarts = threat, restarts

    @abstractmethod
    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        """A point of high loss near x [B, C, H, W]; its random numbers come from ``stream``."""

    @abstractmethod
    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """The losses to ascend in turn, given clean logits [B, K] and labels y [B]."""

    @final
    def perturb(self, loss: Loss, x: Tensor, stream: str = "start") -> Tensor:
        """Images [B, C, H, W] of high loss in ball and box around x.

        Args:
            loss: pixels [B, C, H, W] -> [B]; a ``Search`` may shrink the batch on the way.
            x: images in [0, 1].
            stream: names the random numbers (``modules.noise``).
        """
        if self.threat.eps == 0:
            return x.clone()
        x_adv = self._perturb(loss, x, stream).detach()
        return self.threat.confine(x, x_adv) if len(x_adv) == len(x) else x_adv

    @final
    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, draws: int = 1, compact: bool = False
    ) -> Tensor:
        """The most adversarial images [B, C, H, W] found.

        Args:
            classifier: pixels [B, C, H, W] -> logits [B, K].
            x: images in [0, 1].
            y: labels [B].
            draws: looks that every loss is averaged over, each with fresh noise (expectation over transformation).
            compact: leave out images once they fool the classifier.  Cheaper; the points found lie just behind the
                decision boundary and are of no use against other defences.  Not for batch-coupled classifiers.

        Raises:
            ValueError: the classifier returned logits that are not finite.
        """
        search = Search(classifier, x, y, self.threat, draws=draws, compact=compact)
        with torch.no_grad():
            search(x)
            logits = classifier(x)
        if self.threat.eps == 0:
            return x.clone()
        for number, (loss, labels) in enumerate(self.label_losses(logits, y)):
            for restart in range(self.restarts):
                search.aim(loss, labels)
                if len(search.index) == 0:
                    return search.worst
                with noise.subset(search.index):
                    x_adv = self.perturb(search, x[search.index], f"{number}/{restart}")
                if 0 < len(x_adv) == len(search.index):
                    with torch.no_grad():
                        search(x_adv)
        return search.worst

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({settings})"


def where_image(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where condition [B] holds, else b, image by image [B, C, H, W]."""
    return torch.where(per_image(condition, a), a, b)
