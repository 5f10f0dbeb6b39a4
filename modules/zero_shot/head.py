"""Class names into classifier weights: text embeddings, computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.perturb.losses import at_least_single
from modules.zero_shot.memory import TextMemory

BLANK_PROMPT = "a photo of a."
"""The class-free prompt of CLIPure's abstract."""


class Texts(Protocol):
    """What a head needs of a text tower."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embeddings [N, D], L2-normalised."""
        ...


class ZeroShotHead(nn.Module):
    """Logits of embeddings: scaled cosines to one direction per class (arXiv:2103.00020).

    Args:
        weights: [K, D] class embeddings, L2-normalised here.
        classes: K names; those of the same name get the same logits, bit for bit, on any machine.
        logit_scale: factor on the cosines.
        logit_bias: added to every logit, as models of a sigmoid loss learn it (SigLIP, arXiv:2303.15343).
    """

    weights: Tensor

    def __init__(
        self, weights: Tensor, classes: Sequence[str], /, *, logit_scale: float = 100.0, logit_bias: float = 0.0
    ) -> None:
        super().__init__()
        self.classes, self.logit_scale, self.logit_bias = list(classes), logit_scale, logit_bias
        places: dict[str, int] = {}
        first = [places.setdefault(name, place) for place, name in enumerate(self.classes)]
        self._first = first if len(places) < len(first) else None
        weights = F.normalize(weights, dim=-1)
        self.register_buffer("weights", weights if self._first is None else weights[self._first], persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Logits [B, K] of embeddings z [B, D], normalised here."""
        z = at_least_single(z)
        with torch.autocast(z.device.type, enabled=False):  # three digits of a cosine are too few under a factor of 100
            logits = self.logit_scale * F.normalize(z, dim=-1) @ self.weights.T
            if self.logit_bias:
                logits = logits + self.logit_bias
        if self._first is not None:  # a product may round its columns differently
            logits = logits[:, self._first]
        assert logits.shape == (len(z), len(self.classes)), "the head's output is not [B, K]"
        return logits


def class_embeddings(
    text: Texts,
    classes: Sequence[str],
    templates: Sequence[str],
    *,
    ties: bool = False,
    memory: TextMemory | None = None,
) -> Tensor:
    """[K, D] mean over the templates of each class's normalised text embeddings, normalised.

    Args:
        text: the text tower.
        classes: K names.
        templates: with one ``{}`` each.
        ties: classes may read the same, and then nothing tells them apart.
        memory: of what the tower has said before.

    Raises:
        ValueError: no class, no template, a template without ``{}``, or two classes that read the same.
    """
    _check(classes, templates, ties)
    names = list(dict.fromkeys(classes))  # encoded once each: another row of a batch may be rounded differently
    prompts = [template.format(name) for name in names for template in templates]

    def ask() -> Tensor:
        z = torch.cat([text.encode_text(prompts[i : i + 256]) for i in range(0, len(prompts), 256)])
        return F.normalize(z.view(len(names), len(templates), -1).mean(dim=1), dim=-1)

    found = memory.recall(text, "classes", (names, templates), ask, texts=len(prompts)) if memory else ask()
    return found if len(names) == len(classes) else found[[names.index(name) for name in classes]]


def blank_embedding(text: Texts, templates: Sequence[str], *, memory: TextMemory | None = None) -> Tensor:
    """[D] mean of the templates' normalised embeddings with the class left out, as released CLIPure-Cos has it."""

    def ask() -> Tensor:
        return text.encode_text([template.format("") for template in templates]).mean(dim=0)

    return memory.recall(text, "blank", (templates,), ask) if memory else ask()


def zero_shot_head(
    text: Texts,
    classes: Sequence[str],
    templates: Sequence[str],
    *,
    logit_scale: float,
    logit_bias: float = 0.0,
    ties: bool = False,
    memory: TextMemory | None = None,
) -> ZeroShotHead:
    """Return the head of a list of classes; arguments as in ``class_embeddings`` and ``ZeroShotHead``."""
    weights = class_embeddings(text, classes, templates, ties=ties, memory=memory)
    return ZeroShotHead(weights, classes, logit_scale=logit_scale, logit_bias=logit_bias)


def _check(classes: Sequence[str], templates: Sequence[str], ties: bool) -> None:
    if not classes or not templates:
        raise ValueError(f"zero-shot needs classes and templates, not {len(classes)} and {len(templates)}")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"template {template!r} must hold one {{}} for the class")
    seen: dict[str, int] = {}
    for number, name in enumerate(classes):
        if name in seen and not ties:
            raise ValueError(f"classes {seen[name]} and {number} are both {name!r}; their prompts are identical")
        seen[name] = number
