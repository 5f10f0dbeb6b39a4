"""Floating-point operations of one sample in a step of a training, counted before it starts."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from data.batches import ImageBatch
from eval.cost import counted
from modules import noise
from modules.counting import flops_of, on_meta
from modules.encoders.base import ImageEncoder, frozen
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.optim import OptimizerSettings
from modules.lightning.perceptual_training import PerceptualTraining
from modules.lightning.prior_training import PriorTraining
from modules.prior.diffusion import DiffusionPrior

log = logging.getLogger(__name__)


class StandIn(ImageEncoder):
    """An encoder on which passes are counted, not paid for.

    Args:
        embedding_dim: D.
    """

    def __init__(self, embedding_dim: int = 8, /) -> None:
        super().__init__()
        self.embedding_dim, self.image_size = embedding_dim, 4
        self.tower = nn.Sequential(nn.Flatten(), nn.Linear(48, embedding_dim))

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D] of x [B, 3, 4, 4]."""
        return self.tower(x)


@dataclass(frozen=True)
class Passes:
    """Passes of one image in a step, but for the update.

    Attributes:
        reference: forwards, through the original encoder.
        forward: forwards of the attack without a way back.
        gradient: forwards of the attack with a gradient of the pixels.
    """

    reference: float
    forward: float
    gradient: float


@dataclass(frozen=True)
class PassFlops:
    """Operations of a pass of one image: ``forward``, with the ``gradient`` of its pixels, and of an ``update``."""

    forward: int
    gradient: int
    update: int


def images(count: int, size: int, device: str = "cpu") -> ImageBatch:
    """Grey pictures with names and labels."""
    x, y = torch.full((count, 3, size, size), 0.5, device=device), torch.zeros(count, dtype=torch.long, device=device)
    return ImageBatch(x=x, y=y, key=tuple(map(str, range(count))))


def passes_of(module: AdversarialFineTuning) -> Passes:
    """The passes of one image, counted while the module's own attack and objective work on stand-ins.

    Args:
        module: its encoders are stand-ins.
    """
    batch = images(1, StandIn().image_size)
    original = cast(ImageEncoder, module.reference.encoder)
    with counted(module.encoder) as attack, counted(original) as reference:
        x_adv = module.perturb(batch, 0)
        forward, gradient = attack.forwards - attack.backwards, attack.backwards
        module.objective.outer(module.encoder, module.reference, batch, x_adv)
    return Passes(reference.forwards, forward, gradient)


def pass_flops(tower: ImageEncoder) -> PassFlops:
    """Operations of each kind of pass of one image.

    Args:
        tower: on the device ``meta``, in training mode.
    """
    x = images(1, tower.image_size, "meta").x

    def gradient() -> object:
        with frozen(tower):
            leaf = x.clone().requires_grad_()
            return torch.autograd.grad(tower.encode_image(leaf).sum(), leaf)

    update = flops_of(lambda: tower.encode_image(x).sum().backward())
    return PassFlops(forward_flops(tower), flops_of(gradient), update)


def forward_flops(tower: ImageEncoder) -> int:
    """Operations of a pass of one image without a way back.

    Args:
        tower: on the device ``meta``.
    """
    x = images(1, tower.image_size, "meta").x
    with torch.no_grad(), frozen(tower):
        return flops_of(lambda: tower.encode_image(x))


def triplets(count: int, size: int, device: str = "cpu") -> ImageBatch:
    """Grey triplets with names and labels."""
    grey = images(count, size, device)
    return replace(grey, beside=torch.full((count, 2, 3, size, size), 0.5, device=device))


def triplet_passes(module: PerceptualTraining) -> Passes:
    """The passes of a triplet's pictures in a step, counted while the module's own attack works on a stand-in."""
    if module.attack is None:
        return Passes(reference=0, forward=0, gradient=0)
    batch, stand_in = triplets(1, StandIn().image_size), StandIn()
    around = PerceptualTraining(stand_in, module.attack, settings=OptimizerSettings(), target=module.target)
    with counted(stand_in) as attack:
        around.perturb(torch.cat([batch.x[:, None], cast(Tensor, batch.beside)], dim=1), batch.y, batch.key, 0)
    return Passes(reference=0, forward=attack.forwards - attack.backwards, gradient=attack.backwards)


def prior_loss_flops(prior: DiffusionPrior, *, states: int) -> int:
    """Operations of the loss of one pair, forwards and backwards.

    Args:
        prior: on the device ``meta``, in training mode.
        states: token states of a text; 0 for none.
    """
    one = torch.ones(1, prior.embedding_dim, device="meta")
    tokens = torch.ones(1, states, prior.embedding_dim, device="meta") if states else None

    def loss() -> Tensor:
        with noise.samples(noise.keys_of(("0",), device="meta")):
            return prior.loss_per_sample(one, one, tokens).mean()

    return flops_of(lambda: loss().backward())


def sample_flops(module: pl.LightningModule, *, targets: bool = False) -> float | None:
    """Operations of one sample of a training, without what recomputes activations or reads texts; None if unknown.

    Args:
        module: before its weights are spread over processes.
        targets: batches bring the original encoder's embeddings along.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            if isinstance(module, AdversarialFineTuning):
                return _finetuning_flops(module, targets)
            if isinstance(module, PerceptualTraining):
                return _perceptual_flops(module)
            return _prior_flops(module) if isinstance(module, PriorTraining) else None
        except Exception as error:  # a training is not ended by what only measures it
            log.warning("operations cannot be counted, so perf/tflops is left out: %s", error)
            return None


def _finetuning_flops(module: AdversarialFineTuning, targets: bool) -> float:
    original = cast(ImageEncoder, module.reference.encoder)  # it never computes activations anew
    stand_in = StandIn(original.embedding_dim)
    passes = passes_of(
        AdversarialFineTuning(
            stand_in, copy.deepcopy(stand_in), module.objective, module.attack, settings=OptimizerSettings()
        )
    )
    each = pass_flops(on_meta(original).train().requires_grad_(True))
    references = 0.0 if targets else passes.reference
    return (references + passes.forward) * each.forward + passes.gradient * each.gradient + each.update


def _perceptual_flops(module: PerceptualTraining) -> float:
    passes, each = triplet_passes(module), pass_flops(on_meta(module.encoder))
    return passes.forward * each.forward + passes.gradient * each.gradient + 3 * each.update


def _prior_flops(module: PriorTraining) -> float:
    prior, pairs = on_meta(module.prior).train(), module.pairs
    found = prior_loss_flops(prior, states=prior.net.max_text_len if pairs.tokens else 0)
    return found + (forward_flops(on_meta(pairs.image)) if pairs.image is not None else 0)
