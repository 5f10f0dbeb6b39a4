"""The work of an adversarial fine-tuning: how often its attack passes the encoder, and what a pass costs."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from configs.families import ATTACKS, OBJECTIVES
from configs.schema import FinetuneConfig
from launch.forecast.work import Part, Work
from modules.counting import growth, imaginary, imagined, kept_bytes
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIPEncoder, load_clip
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.student import keep_fewer_activations
from modules.perturb.threat import Threat
from modules.zero_shot import ZeroShotHead
from train.trainer import optimizer_settings
from train.work import Passes, StandIn, images, pass_flops, passes_of

_JPEG = 110_000  # bytes of an ImageNet picture, on average


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


def recipe_passes(config: FinetuneConfig) -> Passes:
    """The passes of one image, counted while the recipe's own attack and objective work on a stand-in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = passes_of(module_of(config, StandIn()))
    return replace(found, reference=0) if config.data.targets else found


def finetuning_work(config: FinetuneConfig) -> Work:
    """What an image of a recipe costs.

    Raises:
        ValueError: no such model, or a part cannot be built.
    """
    tower = tower_of(config)
    passes, each = recipe_passes(config), pass_flops(tower)
    parts = (
        Part("original encoder, forwards", passes.reference, each.forward),
        Part("attack, forwards only", passes.forward, each.forward),
        Part("attack, forwards and gradient of the pixels", passes.gradient, each.gradient),
        Part("update, forwards and backwards", 1, each.update),
    )
    kept, once = activations(config, tower)
    parameters = sum(parameter.numel() for parameter in tower.parameters())
    return Work(
        unit="images",
        parts=tuple(part for part in parts if part.times),
        parameters=parameters,
        frozen=0 if config.data.targets else parameters,
        averaged=False,
        kept=kept,
        kept_once=once,
        sample_bytes=_JPEG,
        assumed="assumed, as ImageNet's pictures; --sample-kb says another",
        left_out="operations leave out what evaluates checkpoints"
        + (" and a forward an image where data.targets has yet to be made" if config.data.targets else ""),
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
