"""The work of an adversarial fine-tuning: how often its attack passes the encoder, and what a pass costs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from configs.families import ATTACKS, OBJECTIVES
from configs.schema import FinetuneConfig
from data.batches import ImageBatch
from eval.cost import counted
from launch.forecast.counting import flops_of, growth, imaginary, imagined, kept_bytes
from launch.forecast.work import Part, Work
from modules.encoders.base import ImageEncoder, frozen
from modules.encoders.clip import CLIPEncoder, load_clip
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.student import keep_fewer_activations
from modules.perturb.threat import Threat
from modules.zero_shot import ZeroShotHead
from train.trainer import optimizer_settings

_JPEG = 110_000  # bytes of an ImageNet picture, on average


class _Small(ImageEncoder):
    """A stand-in on which passes are counted, not paid for."""

    embedding_dim, image_size = 8, 4

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Flatten(), nn.Linear(48, 8))

    def encode_image(self, x: Tensor) -> Tensor:
        return self.tower(x)


@dataclass(frozen=True)
class Passes:
    """Passes of one image in a step.

    Attributes:
        reference: forwards, through the original encoder.
        forward: forwards of the attack without a way back.
        gradient: forwards of the attack with a gradient of the pixels.
    """

    reference: float
    forward: float
    gradient: float


def module_of(config: FinetuneConfig, encoder: ImageEncoder) -> AdversarialFineTuning:
    """The training of a recipe around any encoder; classes, where the objective has them, are two.

    Args:
        config: of the recipe.
        encoder: is trained; a copy is the original one.
    """
    head = ZeroShotHead(torch.eye(2, encoder.embedding_dim), ["this", "that"])
    objective = OBJECTIVES.build(config.objective, head=head)
    attack = ATTACKS.build(config.attack, threat=Threat(config.threat.norm, config.threat.eps))
    settings = optimizer_settings(config.optimizer)
    return AdversarialFineTuning(encoder.train(), copy.deepcopy(encoder), objective, attack, settings=settings)


def images(count: int, size: int, device: str = "cpu") -> ImageBatch:
    """Grey pictures with names and labels."""
    x, y = torch.full((count, 3, size, size), 0.5, device=device), torch.zeros(count, dtype=torch.long, device=device)
    return ImageBatch(x=x, y=y, key=tuple(map(str, range(count))))


def passes_of(config: FinetuneConfig) -> Passes:
    """The passes of one image, counted while the recipe's own attack and objective work on a stand-in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = module_of(config, _Small())
    batch = images(1, _Small.image_size)
    original = cast(ImageEncoder, module.reference.encoder)
    with counted(module.encoder) as attack, counted(original) as reference:
        x_adv = module.perturb(batch, 0)
        found = Passes(0, attack.forwards - attack.backwards, attack.backwards)
        module.objective.outer(module.encoder, module.reference, batch, x_adv)
    return Passes(reference.forwards, found.forward, found.gradient)


def finetuning_work(config: FinetuneConfig) -> Work:
    """What an image of a recipe costs.

    Raises:
        ValueError: no such model, or a part cannot be built.
    """
    tower = tower_of(config)
    x = images(1, tower.image_size, "meta").x

    def forward() -> object:
        with torch.no_grad(), frozen(tower):
            return tower.encode_image(x)

    def gradient() -> object:
        with frozen(tower):
            leaf = x.clone().requires_grad_()
            return torch.autograd.grad(tower.encode_image(leaf).sum(), leaf)

    passes, meta = passes_of(config), flops_of(forward)
    parts = (
        Part("original encoder, forwards", passes.reference, meta),
        Part("attack, forwards only", passes.forward, meta),
        Part("attack, forwards and gradient of the pixels", passes.gradient, flops_of(gradient)),
        Part("update, forwards and backwards", 1, flops_of(lambda: tower.encode_image(x).sum().backward())),
    )
    kept, once = activations(config, tower)
    parameters = sum(parameter.numel() for parameter in tower.parameters())
    return Work(
        unit="images",
        parts=tuple(part for part in parts if part.times),
        parameters=parameters,
        frozen=parameters,
        averaged=False,
        kept=kept,
        kept_once=once,
        sample_bytes=_JPEG,
        assumed="assumed, as ImageNet's pictures; --sample-kb says another",
        left_out="operations leave out what evaluates checkpoints",
    )


def tower_of(config: FinetuneConfig) -> CLIPEncoder:
    """The recipe's image tower, without weights or memory, in training mode."""
    model = config.model
    tower = load_clip(model.name, model.pretrained, image_size=model.image_size, weights=False).image
    if config.trainer.checkpointing:
        keep_fewer_activations(tower)
    return tower.to("meta").train().requires_grad_(True)


def activations(config: FinetuneConfig, tower: CLIPEncoder) -> tuple[int, int]:
    """Bytes that an image, and that any batch, keeps in the update; an attack's pass, without weights, keeps less."""
    with imagined(config.trainer.precision):
        empty = imaginary(tower)

        def kept(count: int) -> int:
            x = images(count, tower.image_size).x
            return kept_bytes(lambda: empty.encode_image(x), [empty])

        return growth(kept)
