"""What every attack shares: the ball, the box, the restarts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import final

import torch
from torch import Tensor

from modules import noise
from modules.attacks.search import Classifier as Classifier
from modules.attacks.search import LabelLoss as LabelLoss
from modules.attacks.search import Labels as Labels
from modules.attacks.search import Search as Search
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Threat, per_image


class Attack(ABC):
    """Perturbs images inside a threat.

    ``perturb`` ascends any per-image loss: training, two-alternative forced choice, gate evasion.  Calling the attack
    ascends its own label loss against a classifier, over all restarts, and returns the worst point ever looked at.
    Both results lie in ball and box whatever the attack does.

    Attributes:
        gradient_free: it only asks for answers, never for a gradient.
        guided: it starts from pictures of other classes too (``Search.guides``).
        blind: it does not even heed the answers; a control.

    Args:
        threat: the ball.
        restarts: independent runs; each works on the images that are still standing.
    """

    gradient_free: bool = False
    guided: bool = False
    blind: bool = False

    @property
    def scale_free(self) -> bool:
        """Its losses have a direction whatever the scale of the logits, as a margin has and cross-entropy has not."""
        return getattr(self, "loss", "margin") != "ce"

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
        """The most adversarial images [B, C, H, W] found; arguments as in ``Search``.

        Raises:
            ValueError: the classifier returned logits that are not finite.
        """
        return self.on(Search(classifier, x, y, self.threat, draws=draws, compact=compact))

    @final
    def on(self, search: Search) -> Tensor:
        """The most adversarial images [B, C, H, W] of a search, this attack's and those before it.

        Raises:
            ValueError: the classifier returned logits that are not finite.
        """
        if search.clean.shape[1] == 0:
            search.begin()
        if self.threat.eps > 0:
            self._run(search)
        return search.worst

    def suited(self, classes: int) -> tuple[Attack, list[str]]:
        """The attack as it can be run on a model with so many classes, and what that changes, in words."""
        return self, []

    def _run(self, search: Search) -> None:
        """Look for worse points: every label loss, every restart."""
        for loss, goals, first in self._goals(search):
            for restart in range(self.restarts):
                search.aim(loss, *goals, first=first)
                if len(search.index) == 0:
                    return
                x = search.x[search.index]
                with noise.subset(search.index), noise.lanes(x, search.lane):
                    x_adv = self.perturb(search, x, f"{search.salt}0/{restart}")
                if 0 < len(x_adv) == len(search.index):
                    with torch.no_grad():
                        search(x_adv, judged=True)
        if search.candidates:
            self._go_on(search)

    def _goals(self, search: Search) -> Iterator[tuple[LabelLoss, list[Labels], int]]:
        """The label losses in turn, as many of one kind side by side as there is room for; and the first's number."""
        first = 0
        for loss, losses in groupby(self.label_losses(search.clean, search.y), key=itemgetter(0)):
            goals = [labels for _, labels in losses]
            while goals:
                now = goals[: search.room()]
                yield loss, now, first
                first, goals = first + len(now), goals[len(now) :]

    def _go_on(self, search: Search) -> None:
        """One more run on the margin, from the worst points known."""
        search.aim(margin, (search.y,))
        if len(search.index) == 0:
            return
        with noise.subset(search.index):
            x_adv = self._perturb_from(search, search.x[search.index], search.worst[search.index])
        if x_adv is not None and 0 < len(x_adv) == len(search.index):
            with torch.no_grad():
                search(search.threat.confine(search.x[search.index], x_adv.detach()), judged=True)

    def _perturb_from(self, loss: Loss, x: Tensor, start: Tensor) -> Tensor | None:
        """A point of higher loss than ``start``, near x [B, C, H, W]; None where the attack cannot go on from one."""
        return None

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({settings})"


def likeliest_targets(logits: Tensor, y: Tensor, most: int) -> list[Tensor]:
    """[B] wrong classes to aim at, by the clean logits [B, K] the likeliest first; no more than there are."""
    ranked = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
    return [ranked[:, rank] for rank in range(min(most, logits.shape[1] - 1))]


def where_image(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where condition [B] holds, else b, image by image [B, C, H, W]."""
    return torch.where(per_image(condition, a), a, b)
