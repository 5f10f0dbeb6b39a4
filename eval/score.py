"""A scorecard of what somebody holds in their hands: any classifier or encoder, any defence, tensors of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from configs.load import config_hash, load_config, plain
from configs.schema import ScorecardConfig
from configs.scorecard import BARE
from data.source import TensorImages, choose_images
from eval.card import Card, write_card
from eval.evaluate import fingerprint
from eval.plan import Plan, planned_attacks
from eval.rows import Subject
from eval.scorecard import Scoring, evaluation_config, make_card, sized
from eval.tasks.base import Task
from eval.tasks.classification import ClassificationTask
from modules.attacks.base import Classifier
from modules.defenses.base import Defense, Undefended
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat

HANDED_IN = "handed_in"


class PlainHead(nn.Module):
    """The head of a model that gives logits itself: the identity.

    Args:
        classes: K names.
    """

    def __init__(self, classes: Sequence[str], /) -> None:
        super().__init__()
        self.classes = list(classes)

    def forward(self, z: Tensor) -> Tensor:
        """z [B, K] itself."""
        return z


class LogitsEncoder(ImageEncoder):
    """Any classifier as an encoder, whose embeddings are its logits.

    Args:
        classifier: pixels [B, C, H, W] in [0, 1] -> logits [B, K].
        classes: K.
        size: H = W.
    """

    anchor: Tensor

    def __init__(self, classifier: Classifier, classes: int, size: int, /) -> None:
        super().__init__()
        self.classifier = classifier
        self.anchor = nn.Parameter(torch.zeros(()))  # gives a device to functions that have none
        own = next(classifier.parameters(), None) if isinstance(classifier, nn.Module) else None
        if own is not None:
            self.to(own.device)
        self.embedding_dim, self.image_size = classes, size

    def encode_image(self, x: Tensor) -> Tensor:
        """Logits [B, K]."""
        return self.classifier(x)


def score(
    model: Classifier | ImageEncoder,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    defense: Callable[[ImageEncoder], Defense] | None = None,
    head: nn.Module | None = None,
    budget: str = "quick",
    settings: Sequence[str] = (),
    out: Path | None = None,
) -> Card:
    """The scorecard of a model, bare or behind a defence, on tensors of images.

    Args:
        model: pixels [B, C, H, W] in [0, 1] -> logits [B, K]; or an encoder, with a head.
        x: images [N, C, H, W] in [0, 1].
        y: labels [N].
        threat: the ball.
        defense: puts a defence around the encoder (of a classifier: around its logits).
        head: embeddings [B, D] -> logits [B, K], with the names of its ``classes``; none for a classifier.
        budget: ``quick``, ``standard``, ``thorough``, or a recipe's file.
        settings: ``key=value``, what differs from the budget.
        out: folder for unfinished work and ``scorecard.json``.

    Raises:
        ConfigError: every fault of the settings.
        ValueError: images or labels cannot be; model or defence failed or returned nonsense, told in one line.
    """
    said = [*settings, "model.name=handed-in", f"data.shards={HANDED_IN}", "defense={name: none}"]
    said += [f"threat.norm={threat.norm}", f"threat.eps={threat.eps!r}"]
    config: ScorecardConfig = load_config("scorecard", budget, said)
    encoder, head = _encoder(model, x, head)
    images = choose_images(_images(x, y, head), config.data.limit, shuffle=config.stop_width > 0)
    task = ClassificationTask(HANDED_IN, images, head, torch.zeros(encoder.embedding_dim), None)  # pyright: ignore[reportArgumentType]
    plan = _plan(config, encoder, task, threat, defense)
    config, plan = sized(config, plan, encoder)
    subject = Subject("model", HANDED_IN, fingerprint=fingerprint(encoder))
    state = out / "state" if out else None
    card, _ = make_card(encoder, Scoring(config, plan, subject, budget=Path(budget).stem, state=state))
    if out:
        write_card(out, card)
    return card


def _encoder(model: Classifier | ImageEncoder, x: Tensor, head: nn.Module | None) -> tuple[ImageEncoder, nn.Module]:
    if isinstance(model, ImageEncoder):
        if head is None:
            raise ValueError("an encoder needs a head that reads its embeddings; give head=")
        return model, head
    with torch.no_grad():
        logits = model(x[:1].to(_device(model)))
    if logits.dim() != 2 or len(logits) != 1:
        raise ValueError(f"the model returned {list(logits.shape)} for one image instead of logits [1, K]")
    classes = logits.shape[1]
    return LogitsEncoder(model, classes, x.shape[-1]), PlainHead([f"class {k}" for k in range(classes)])


def _device(model: Classifier) -> torch.device:
    own = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if own is None else own.device


def _images(x: Tensor, y: Tensor, head: nn.Module) -> TensorImages:
    classes: list[str] = head.classes  # pyright: ignore[reportAssignmentType]
    if len(classes) == 1:
        raise ValueError("the model has 1 class; nothing can be mistaken for another, give at least 2")
    return TensorImages(x, y, classes=classes)


def _plan(
    config: ScorecardConfig,
    encoder: ImageEncoder,
    task: ClassificationTask,
    threat: Threat,
    defense: Callable[[ImageEncoder], Defense] | None,
) -> Plan:
    whole = evaluation_config(config)
    name = BARE
    if defense is not None:
        name = type(defense(encoder)).__name__
        whole = replace(whole, defenses={BARE: {}, name: {"name": BARE}})
    made: dict[str, Defense] = {}

    def defend(asked: str, inner: ImageEncoder, task: Task) -> Defense:
        if asked not in made:
            made[asked] = Undefended(inner) if asked == BARE or defense is None else defense(inner)
        return made[asked]

    return Plan(
        config=whole,
        threat=threat,
        tasks=[task],
        defend=defend,
        attacks=planned_attacks(whole, threat),
        device=next(encoder.parameters()).device,
        hash=config_hash([plain(whole), name]),
    )
