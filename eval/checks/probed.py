"""A defence that answers questions in the attacker's noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from data.batches import ImageBatch
from eval.answers import ATTACK_DRAW, blamed
from eval.health import IMAGES, first_images
from eval.judge import Judge
from modules.attacks.base import Classifier
from modules.defenses.base import Defense, View
from modules.defenses.routes import undefended
from modules.encoders.base import ImageEncoder


@dataclass(frozen=True)
class Probed:
    """A defence and a few images.

    Attributes:
        judge: who holds it.
        name: of the defence.
        batch: the images.
        unchecked: checks that could not be made, and why, a sentence each; grows.
    """

    judge: Judge
    name: str
    batch: ImageBatch
    unchecked: list[str] = field(default_factory=list)

    @property
    def defense(self) -> Defense:
        """The defence."""
        return self.judge.defenses[self.name]

    @property
    def few(self) -> Probed:
        """The same with fewer images, for questions that need gradients."""
        return self.about(first_images(self.batch, self.defense, IMAGES))

    def about(self, batch: ImageBatch) -> Probed:
        """The same with other images."""
        return Probed(self.judge, self.name, batch, self.unchecked)

    def classifier(self, encoder: ImageEncoder | None = None) -> Classifier:
        """Pixels to logits, by the defence or another encoder."""
        return self.judge.asked(encoder or self.defense, self.batch)

    @torch.no_grad()
    def logits(
        self, x: Tensor | None = None, *, draw: int = ATTACK_DRAW, encoder: ImageEncoder | None = None
    ) -> Tensor:
        """[B, K] answers about the images, or about x [B, 3, H, W] under the images' names.

        Raises:
            ValueError: the defence failed, in one line that names it.
        """
        with self.judge.named(self.batch, draw), blamed(self.name):
            return self.classifier(encoder)(self.batch.x if x is None else x).float()

    @property
    def declared(self) -> bool:
        """Whether the defence says that something has to stand in for its own gradient: a sign, a gate, a vote."""
        return self.defense.differentiable() is not self.defense or self.defense.smoothed() is not None

    @property
    def streamed(self) -> bool:
        """Whether images of a batch may change one another's answers, because the model declares that it adapts."""
        return getattr(self.judge.encoder, "adapts", "") == "stream"

    @property
    def bare(self) -> ImageEncoder:
        """The encoder at the bottom."""
        return undefended(self.defense)

    def has(self, view: View) -> bool:
        """Whether the plan takes this view of the defence."""
        return any(cell.defense == self.name and cell.view == view for cell in self.judge.cells)


def moved(before: Tensor, after: Tensor) -> Tensor:
    """[B] largest change of an image's logits [B, K], in standard deviations of all logits before."""
    change = (after - before).abs().amax(dim=1) / before.std().clamp_min(1e-30)
    return torch.nan_to_num(change, nan=torch.inf, posinf=torch.inf)


def percent(share: float) -> str:
    """A share, for people."""
    return f"{100 * share:.0f} %" if share in (0, 1) or share >= 0.01 else f"{100 * share:.2g} %"
