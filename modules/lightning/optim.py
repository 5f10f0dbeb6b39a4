"""AdamW and its learning-rate schedule, the same for every kind of training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from modules.choices import check_choice


def warmup_cosine(step: int, *, warmup_steps: int, max_steps: int) -> float:
    """Factor of the learning rate: linear to 1 over W steps, then a half cosine to 0 at S.

    Args:
        step: finished steps; the factor is that of the next one, so step 0 is not idle.
        warmup_steps: W.
        max_steps: S; the factor stays 0 beyond.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = min((step - warmup_steps) / (max_steps - warmup_steps), 1.0)
    return 0.5 * (1 + math.cos(math.pi * done))


Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class OptimizerSettings:
    """What a recipe says about the optimiser.

    Args:
        lr: peak learning rate.
        weight_decay: decoupled, per unit of learning rate.
        betas: of Adam's two averages.
        eps: of Adam's denominator.
        warmup_steps: linear from lr / warmup_steps to lr.
        max_steps: where the cosine ends; the Trainer's number of steps.
        schedule: what follows the warm-up.
        decay_all: False spares tensors with one dimension (gains and biases) the weight decay.

    Raises:
        ValueError: a value is out of range.
    """

    lr: float = 1e-5
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup_steps: int = 1400
    max_steps: int = 20000
    schedule: Schedule = "cosine"
    decay_all: bool = True

    def __post_init__(self) -> None:
        check_choice("schedule", self.schedule, Schedule)
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr={self.lr}: must be positive")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay={self.weight_decay}: must be 0 or more")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={tuple(self.betas)}: must be two numbers in [0, 1)")
        if not self.eps > 0:
            raise ValueError(f"eps={self.eps}: must be positive")
        if not 0 <= self.warmup_steps < self.max_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps}: must be in 0..{self.max_steps - 1}, "
                f"below max_steps={self.max_steps}"
            )

    def factor(self, step: int) -> float:
        """Factor of the learning rate after ``step`` finished steps."""
        if self.schedule == "constant":
            return min((step + 1) / max(self.warmup_steps, 1), 1.0)
        return warmup_cosine(step, warmup_steps=self.warmup_steps, max_steps=self.max_steps)

    def build(self, named_parameters: Iterable[tuple[str, nn.Parameter]], /) -> dict[str, Any]:
        """What Lightning's ``configure_optimizers`` returns: AdamW and a per-step schedule.

        Args:
            named_parameters: of the model; those without gradient are left out.
        """
        trained = [p for _, p in named_parameters if p.requires_grad]
        if not trained:
            raise ValueError("nothing to train: every parameter is frozen")
        decayed = [p for p in trained if self.decay_all or p.ndim >= 2]
        spared = [p for p in trained if not (self.decay_all or p.ndim >= 2)]
        groups = [
            {"params": parameters, "weight_decay": decay}
            for parameters, decay in ((decayed, self.weight_decay), (spared, 0.0))
            if parameters
        ]
        first, second = self.betas
        optimizer = AdamW(groups, lr=self.lr, betas=(first, second), eps=self.eps, fused=True)
        # A fused step could divide by the scale of half precision itself, but gradients are clipped before it.
        optimizer._step_supports_amp_scaling = False  # pyright: ignore[reportAttributeAccessIssue]
        scheduler = LambdaLR(optimizer, self.factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1},
        }
