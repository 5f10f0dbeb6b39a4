"""A scorecard of what somebody holds in their hands: any classifier or encoder, any defence, tensors of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from configs.load import config_hash, load_config, plain
from configs.schema import ScorecardConfig
from configs.scorecard import BARE
from data.source import TensorImages, choose_images
from eval.adapting import Adapting, Adapts
from eval.card import Card, Doubt, write_card
from eval.checks.answers import MOVED
from eval.checks.probed import moved
from eval.evaluate import fingerprint
from eval.handed_in import LogitsEncoder, PlainHead, copied
from eval.plan import Plan, planned_attacks
from eval.rows import Subject
from eval.scorecard import Scoring, evaluation_config, make_card, shared, sized
from eval.tasks.base import Task
from eval.tasks.classification import ClassificationTask
from modules.attacks.base import Classifier
from modules.defenses.base import Defense, Undefended
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat

HANDED_IN = "handed_in"
_Victim = TypeVar("_Victim", bound=Callable[..., Tensor])
FIRST = 32  # images that are asked about at first and in the end
PARTS_SHOWN = 4  # images; enough to tell what answers by itself


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
    adapts: Adapts | None = None,
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
        adapts: of a model that adapts at test time, whether it is put back, by its ``reset()`` or by a copy, before
            every ``image`` or before every batch, as a ``stream``; the rows say so.
        out: folder for unfinished work and ``scorecard.json``.

    Raises:
        ConfigError: every fault of the settings.
        ValueError: images or labels cannot be; model or defence failed or returned nonsense, told in one line.
    """
    first = _first_answers(model, x)
    said = [*settings, "model.name=handed-in", f"data.shards={HANDED_IN}", "defense={name: none}"]
    said += [f"threat.norm={threat.norm}", f"threat.eps={threat.eps!r}"]
    config: ScorecardConfig = load_config("scorecard", budget, said)
    encoder, head = _encoder(model if adapts is None else Adapting(model, adapts=adapts), x, head)
    if isinstance(encoder, LogitsEncoder):
        encoder.find_parts(x[:PARTS_SHOWN].to(encoder.anchor.device))
    images = choose_images(_images(x, y, head), config.data.limit, shuffle=config.stop_width > 0)
    task = ClassificationTask(HANDED_IN, images, head, torch.zeros(encoder.embedding_dim), None)  # pyright: ignore[reportArgumentType]
    plan = _plan(config, encoder, task, threat, defense)
    if config.fewer:
        config, plan = sized(config, plan, _copy_of(encoder))
    subject = Subject("model", HANDED_IN, fingerprint=fingerprint(encoder))
    state = out / "state" if out else None
    card, _ = make_card(encoder, Scoring(config, plan, subject, budget=Path(budget).stem, state=state))
    card = replace(card, doubts=[*_aged(model, x, first), *card.doubts])
    if out:
        write_card(out, card)
    return card


def _encoder(model: Classifier | ImageEncoder, x: Tensor, head: nn.Module | None) -> tuple[ImageEncoder, nn.Module]:
    if isinstance(model, ImageEncoder):
        if head is None:
            raise ValueError("an encoder needs a head that reads its embeddings; give head=")
        return model, head
    with torch.no_grad():
        logits = _copy_of(model)(x[:1].to(_device(model)))  # whoever remembers has not been asked yet
    if logits.dim() != 2 or len(logits) != 1:
        raise ValueError(f"the model returned {list(logits.shape)} for one image instead of logits [1, K]")
    classes = logits.shape[1]
    return LogitsEncoder(model, classes, x.shape[-1]), PlainHead([f"class {k}" for k in range(classes)])


@torch.no_grad()
def _first_answers(model: Classifier | ImageEncoder, x: Tensor) -> Tensor | None:
    """[B, D] what a copy of the model says of the first images; None where it fails, which is told later."""
    try:
        twin = _copy_of(model)
        if isinstance(twin, nn.Module) and twin is not model:
            twin.eval()  # as it is evaluated
        return twin(x[:FIRST].to(_device(model))).float()
    except Exception:  # a stranger's class may fail in any way
        return None


def _aged(model: Classifier | ImageEncoder, x: Tensor, first: Tensor | None) -> list[Doubt]:
    """A doubt where even an untouched copy answers otherwise now than at first, say by the clock."""
    now = _first_answers(model, x)
    if first is None or now is None or now.shape != first.shape:
        return []
    change = float(moved(first, now).max())
    if change <= MOVED:
        return []
    text = (
        f"An untouched copy of the model answers otherwise than when it was handed in, by up to {change:.2g} standard "
        "deviations of the logits: it goes by the clock, by what other objects hold, or by noise of its own."
    )
    return [Doubt("aged", "red", text)]


def _copy_of(victim: _Victim) -> _Victim:
    """A copy to try things on; the victim itself where it cannot be copied."""
    try:
        return cast(_Victim, copied(victim))
    except Exception:  # a stranger's class may fail in any way
        return victim


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
        name = type(defense(_copy_of(encoder))).__name__
        whole = replace(whole, defenses={BARE: {}, name: {"name": BARE}})

    def defend(asked: str, inner: ImageEncoder, task: Task) -> Defense:
        return Undefended(inner) if asked == BARE or defense is None else defense(inner)

    plan = Plan(
        config=whole,
        threat=threat,
        tasks=[task],
        defend=defend,
        attacks=planned_attacks(whole, threat),
        device=next(encoder.parameters()).device,
        hash=config_hash([plain(whole), name]),
    )
    return shared(plan)
