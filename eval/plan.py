"""What an evaluation does, with everything built: tasks, defences, attacks, views."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.families import ATTACKS, DEFENSES
from configs.faults import ATTACK_ROUTING, component
from configs.files import ConfigError
from configs.load import config_hash, plain
from configs.schema import EvaluateConfig
from eval.looks import Wish
from eval.prior_origin import PriorOrigin
from eval.tasks.base import Task
from eval.tasks.building import build_task
from eval.texts import blank_prompt
from modules.attacks.base import Attack
from modules.defenses.base import Defense, View
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIP, load_clip
from modules.perturb.threat import Threat
from modules.prior.diffusion import DiffusionPrior
from modules.prior.storage import load_prior


@dataclass(frozen=True)
class PlannedAttack:
    """An attack, its config (to rebuild it at another eps), and the views it is run through."""

    attack: Attack
    node: Mapping[str, Any]
    views: frozenset[View]


@dataclass
class Plan:
    """An evaluation that can be run on any encoder of the same embedding space, again and again.

    Attributes:
        config: the recipe it was built from.
        threat: the ball of every attack.
        tasks: the data sets.
        defend: (name of a defence, encoder, task) -> the defended encoder.
        attacks: by name.
        prior: that defences use, and where it comes from; None where there is none, or it was handed in.
        original: the encoder before its fine-tuning; None where nobody asks for it.
        wish: what to look for in the encoder; None where nothing.
        device: where the encoder is put for it, unless it is already somewhere for training.
        hash: names the config in every row.
    """

    config: EvaluateConfig
    threat: Threat
    tasks: list[Task]
    defend: Callable[[str, ImageEncoder, Task], Defense]
    attacks: dict[str, PlannedAttack]
    device: torch.device
    hash: str
    prior: DiffusionPrior | None = None
    origin: PriorOrigin | None = None
    original: ImageEncoder | None = None
    wish: Wish | None = None

    def with_prior(self, name: str) -> bool:
        """Whether a defence uses the prior."""
        return "prior" in DEFENSES.needs(component(self.config.defenses[name], name))

    def take_shard(self, number: int, count: int, encoder: ImageEncoder) -> None:
        """Judge only one shard of every data set, ``number`` of ``count``.

        Raises:
            ConfigError: an evaluation that may stop early cannot be split.
            ValueError: a set has fewer images than shards.
        """
        if self.config.stop_width:
            raise ConfigError("an evaluation that stops early (stop_width) cannot be split; say stop_width=0")
        for task in self.tasks:
            groups = [self.defend(name, encoder, task).group for name in self.config.defenses]
            task.take_shard(number, count, math.lcm(*groups))
        self.wish = self.wish if number == 1 else None

    def at(self, eps: float, attack: str, task: Task) -> Attack:
        """One of the attacks in balls of this radius, on the pixels of a task."""
        threat = task.threat(Threat(self.threat.norm, eps))
        if threat == self.threat:
            return self.attacks[attack].attack
        return ATTACKS.build(self.attacks[attack].node, threat=threat)


def device_of(name: str) -> torch.device:
    """The device a recipe names; ``auto`` takes a GPU where there is one.

    Raises:
        ConfigError: it is not there.
    """
    if name == "auto":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} is not to be had here; say device=auto") from error
    return device


def build_plan(config: EvaluateConfig, clip: CLIP, *, prior: DiffusionPrior | None = None) -> Plan:
    """The plan of a checked recipe.

    Args:
        config: the recipe.
        clip: whose text tower writes heads and prompts.
        prior: used instead of the file that the recipe names.

    Raises:
        ConfigError: the model has no text tower; a defence needs what is not there; the batch size splits a
            batch-coupled group.
        ValueError: the data or the prior cannot be read.
    """
    if clip.text is None:
        raise ConfigError(f"{clip.name} has no text tower, so nothing names its classes; it cannot be judged zero-shot")
    device = device_of(config.device)
    clip.to(device)
    origin = None
    if prior is None and config.prior is not None:
        origin, prior = PriorOrigin.of(Path(config.prior)), load_prior(Path(config.prior))
    if prior is not None:
        prior.to(device)
    threat = Threat(config.threat.norm, config.threat.eps)
    early = config.stop_width > 0  # then every beginning of the images must be a fair choice
    tasks = [build_task(name, task, clip, shuffle=early) for name, task in config.tasks.items()]
    original = _original(config)
    plan = Plan(
        config=config,
        threat=threat,
        tasks=tasks,
        defend=_defences(config, clip, prior, original),
        attacks=planned_attacks(config, threat),
        device=device,
        hash=config_hash(plain(config)),
        prior=prior,
        origin=origin,
        original=original,
        wish=Wish.of(config.inversion, clip, config.seed),
    )
    _check_defences(plan, clip)
    return plan


def _defences(
    config: EvaluateConfig, clip: CLIP, prior: DiffusionPrior | None, original: ImageEncoder | None
) -> Callable[[str, ImageEncoder, Task], Defense]:
    assert clip.text is not None
    blank, tokens = blank_prompt(clip.text, config.blank_prompt)

    def defend(name: str, encoder: ImageEncoder, task: Task) -> Defense:
        node = component(config.defenses[name], name)
        # Cos looks at the set's templates, Diff at one prompt, unless it does as the released code does
        of_set = "blank_tokens" not in DEFENSES.needs(node) or node.get("mode") == "legacy"
        defense = DEFENSES.build(
            node,
            encoder=encoder,
            prior=prior,
            blank_embedding=task.class_free if of_set and task.class_free is not None else blank,
            blank_tokens=tokens,
            head=task.zero_shot,
            original=original,
        )
        # never .eval() here: the encoder inside may be in training, and the harness freezes it anyway
        return defense.to(next(encoder.parameters()).device)

    return defend


def _original(config: EvaluateConfig) -> ImageEncoder | None:
    """The encoder before its fine-tuning, where a defence or a task asks for it."""
    nodes = (component(node, name) for name, node in config.defenses.items())
    asked = any(task.transfer_from is not None for task in config.tasks.values())
    if not asked and not any("original" in DEFENSES.needs(node) for node in nodes):
        return None
    clip = load_clip(config.model.name, config.model.pretrained, image_size=config.model.image_size)
    return clip.image.to(device_of(config.device)).freeze()


def planned_attacks(config: EvaluateConfig, threat: Threat) -> dict[str, PlannedAttack]:
    """The attacks of a recipe, built, each with the views that it is run through."""
    attacks = {}
    for name, said in config.attacks.items():
        node = component(said, name, without=ATTACK_ROUTING)
        allowed = (said or {}).get("views", config.views)
        views = frozenset(View(view) for view in config.views if view in allowed)
        attacks[name] = PlannedAttack(ATTACKS.build(node, threat=threat), node, views)
    return attacks


def _check_defences(plan: Plan, clip: CLIP) -> None:
    faults = []
    for task in plan.tasks:
        for name in plan.config.defenses:
            defense = plan.defend(name, clip.image, task)
            if plan.config.batch_size % defense.group:
                faults.append(
                    f"batch_size={plan.config.batch_size} splits the groups of {defense.group} that "
                    f"defenses.{name} works on; make it a multiple"
                )
            if getattr(defense, "calibrate", False) and task.tuning is None:
                faults.append(
                    f"defenses.{name} calibrates on a tuning split, which tasks.{task.dataset} lacks; "
                    f"name one with tasks.{task.dataset}.tune_split, or say defenses.{name}.calibrate=false"
                )
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
