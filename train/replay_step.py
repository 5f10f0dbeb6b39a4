"""What each sample of a step does: its losses, its gradient, and whether it alone breaks the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from eval.progress import Ticker
from modules import noise
from modules.encoders.base import frozen
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.prior_training import PriorTraining
from modules.objectives.base import Objective
from modules.perturb.losses import Loss


@dataclass
class Sample:
    """One sample of a step.

    Attributes:
        key: its name.
        process: that had it.
        inner_start: the loss that the attack ascends, where the attack started; None where there is no attack.
        inner_end: the same where it ended.
        loss: that the weights descend.
        gradient_norm: l2 norm of that loss's gradient, of this sample alone; None where it was not asked for.
        broken: what is not finite.
    """

    key: str
    process: int
    inner_start: float | None
    inner_end: float | None
    loss: float
    gradient_norm: float | None = None
    broken: list[str] = field(default_factory=list)


@dataclass
class Share:
    """What a process did with a batch of the step.

    Attributes:
        samples: in their order.
        loss: their mean, as the training computes it.
        x: pictures [B, 3, H, W]; None for a prior.
        x_adv: perturbed [B, 3, H, W]; None for a prior.
        alone: index of a sample -> its loss, with a graph, computed apart from the others, so that what is not finite
            in one cannot spread.
    """

    samples: list[Sample]
    loss: float
    x: Tensor | None
    x_adv: Tensor | None
    alone: Callable[[int], Tensor]


def attacked(module: AdversarialFineTuning, batch: Any, step: int, process: int) -> Share:
    """A batch with its attack as in the training: the same weights, keys and step give the same bits.

    Args:
        module: before the step.
        batch: of the module's device.
        step: number of the step, from 1.
        process: that had the batch.
    """
    objective, watched = module.objective, _Watched(module.objective)
    module.objective = watched  # pyright: ignore[reportAttributeAccessIssue]
    try:
        x_adv = module.perturb(batch, step - 1)
    finally:
        module.objective = objective
    keys = noise.keys_of(batch.key, device=batch.x.device)
    with torch.no_grad(), noise.samples(keys, seed=module.seed, draw=step - 1), frozen(module.encoder):
        ends = objective.inner(module.student, module.reference, batch)(x_adv).tolist()
    outer, reference = objective.outer, module.reference
    with torch.enable_grad():  # as in the training: layers may take other ways without gradients
        losses = outer(module.student, reference, batch, x_adv).detach()

    def alone(i: int) -> Tensor:
        one = batch.select([i])
        target = getattr(one, "target", None)
        if target is not None:
            reference.remember(one.x, target)
        return outer(module.student, reference, one, x_adv[i : i + 1]).sum()

    starts = watched.starts or [None] * len(losses)
    samples = [Sample(*values) for values in zip(batch.key, repeat(process), starts, ends, losses.tolist())]
    finite = [tensor.flatten(1).isfinite().all(dim=1).tolist() for tensor in (batch.x, x_adv)]
    for sample, x_is, x_adv_is in zip(samples, *finite, strict=True):
        sample.broken += [name for name, fine in (("picture", x_is), ("perturbed picture", x_adv_is)) if not fine]
    return Share(_judged(samples), float(losses.mean()), batch.x, x_adv, alone)


class _Watched:
    """An objective that notes the inner loss where an attack starts; nothing else is changed."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.starts: list[float] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def inner(self, *said: Any) -> Loss:
        """The objective's, noted at its first call."""
        loss = self.objective.inner(*said)

        def noted(x: Tensor) -> Tensor:
            value = loss(x)
            self.starts = value.detach().tolist() if self.starts is None else self.starts
            return value

        return noted


def drawn(module: PriorTraining, batch: Any, position: int, process: int) -> Share:
    """A batch of a prior with timesteps, noise, drops and dropout as in the training.

    Args:
        module: before the step.
        batch: of the module's device.
        position: of its first sample in the stream.
        process: that had the batch.
    """
    pairs = module.pairs.to(module.device)(batch)
    with torch.no_grad():
        losses = module.loss_per_pair(pairs, position)

    def alone(i: int) -> Tensor:  # dropout cannot but be drawn anew for one sample
        return module.loss_per_pair(module.pairs(batch.select([i])), position + i).sum()

    samples = [Sample(key, process, None, None, loss) for key, loss in zip(pairs.key, losses.tolist(), strict=True)]
    return Share(_judged(samples), float(losses.mean()), None, None, alone)


def _judged(samples: list[Sample]) -> list[Sample]:
    for sample in samples:
        for name in ("inner_start", "inner_end", "loss"):
            value = getattr(sample, name)
            if value is not None and not math.isfinite(value):
                sample.broken.append({"inner_start": "inner loss", "inner_end": "inner loss"}.get(name, name))
        sample.broken = list(dict.fromkeys(sample.broken))
    return samples


def measure_gradients(module: Any, shares: Sequence[Share], most: int) -> None:
    """Fill in the norms of gradients, of the worst samples first: not finite, then by loss.

    Args:
        module: before the step.
        shares: of the step.
        most: samples whose gradient is computed.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    everyone = [(share, i) for share in shares for i in range(len(share.samples))]
    everyone.sort(key=lambda one: badness(one[0].samples[one[1]]), reverse=True)
    with Ticker("gradient of each sample", min(most, len(everyone))) as ticker:
        for share, i in everyone[:most]:
            grads = torch.autograd.grad(share.alone(i), parameters, allow_unused=True)
            norm = torch.nn.utils.get_total_norm([grad for grad in grads if grad is not None])
            share.samples[i].gradient_norm = float(norm)
            if not bool(norm.isfinite()):
                share.samples[i].broken.append("gradient")
            ticker.advance(1)


def badness(sample: Sample) -> tuple[bool, float, float]:
    """Sorts samples: what is not finite first, then by loss, then by gradient."""
    loss = sample.loss if math.isfinite(sample.loss) else math.inf
    norm = sample.gradient_norm if sample.gradient_norm is not None else 0.0
    return bool(sample.broken), loss, norm if math.isfinite(norm) else math.inf
