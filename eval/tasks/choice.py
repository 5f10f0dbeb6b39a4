"""Two-alternative forced choice: is the picture that people find nearer the nearer one?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from configs.files import ConfigError
from configs.schema import TaskConfig
from configs.schema.evaluation import ChoiceConfig
from data.batches import ImageBatch
from data.framing import MODES, Framing
from data.layouts.odd_one_out import ODD_CLASSES, open_odd_one_out
from data.layouts.triplet_files import open_triplets
from data.source import ImageSource, choose_images
from data.triplets import CLASSES, TripletImages
from eval.tasks.base import Measures, Question, Ranking, Task
from modules.encoders.base import ImageEncoder
from modules.perceptual.choice import PERTURBED, Choice, Target, perturbed, threat_of
from modules.perceptual.odd_one_out import OddOneOut
from modules.perturb.threat import Threat

CHOSEN = "nearer to people"  # mark of the picture that should come first


@dataclass(frozen=True)
class ChoiceQuestion(Question):
    """Left or right, or which one is the odd one?

    Attributes:
        kind: of the classifier that answers.
        target: what an attacker may change.
        soft: by key, the fraction of people who found the right one nearer; empty where only labels are known.
        groups: by key, the part of the set; empty where there is one.
    """

    kind: type[Choice]
    target: Target
    soft: dict[str, float]
    groups: dict[str, str]

    def classifier(self, encoder: ImageEncoder, batch: ImageBatch) -> Choice:
        """Pixels that may be changed to cosines of left and right to the reference."""
        assert batch.beside is not None, "a choice needs the other pictures"
        return self.kind(encoder, batch.beside, target=self.target)

    def measures(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Measures:
        """How many people one agrees with, where their number is known, and whether one is right, by part of the set.

        The first is the soft score of BAPPS: equal cosines agree with half of the people.  Hard accuracy is never mixed
        with it, and stands in rows of its own.
        """
        found: Measures = {}
        if not self.soft and len(set(self.groups.values())) < 2:
            return found
        cosines = self.classifier(encoder, batch)(x).cpu()
        if self.soft:
            right = torch.where(cosines[:, 0] == cosines[:, 1], 0.5, (cosines[:, 1] > cosines[:, 0]).double())
            preferred = torch.tensor([self.soft[key] for key in batch.key], dtype=torch.float64)
            found["soft_accuracy"] = (right * preferred + (1 - right) * (1 - preferred)).tolist()
        hits = (cosines.argmax(dim=1) == batch.y.cpu()).double().tolist()
        for part in sorted(set(self.groups.values())):
            pairs = zip(batch.key, hits, strict=True)
            found[f"accuracy_{part}"] = [hit if self.groups[key] == part else None for key, hit in pairs]
        return found

    @torch.no_grad()
    def ranking(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Ranking | None:
        """Left and right, the nearer one first; None of odd ones out."""
        if self.kind is OddOneOut:
            return None
        choice = self.classifier(encoder, batch)
        order = choice(x).argsort(dim=1, descending=True, stable=True)
        sides = choice.with_pixels(x)[:, 1:]
        pictures = torch.stack([pair[places] for pair, places in zip(sides, order, strict=True)])
        answers = zip(order.tolist(), batch.y.tolist(), strict=True)
        return Ranking(
            pictures, [[CHOSEN if place == label else "the other" for place in row] for row, label in answers]
        )


class ChoiceTask(Task):
    """Triplets with people's answers.

    Args:
        dataset: name in the results.
        source: triplets; their pictures are the reference, with left and right beside it.
        config: what may be changed.
        whole: the source that ``source`` is a choice of.
    """

    def __init__(self, dataset: str, source: ImageSource, config: ChoiceConfig, whole: TripletImages) -> None:
        self.odd = config.ask == "odd_one_out"
        self.name = "odd-one-out" if self.odd else "2afc"
        self.dataset, self.source, self.tuning = dataset, source, None
        self.target: Target = config.target
        self.whole, self.part = whole, range(len(source))
        self.images, self.resolution = len(PERTURBED[self.target]), whole.framing.side

    @property
    def classes(self) -> list[str]:
        """Left and right; or first, second and third."""
        return self.whole.classes

    @property
    def origin(self) -> dict[str, Any]:
        """What was opened."""
        return {"layout": self.whole.triplets.layout, "count": len(self.whole), "target": self.target}

    def question(self, encoder: ImageEncoder) -> ChoiceQuestion:
        """Left or right?"""
        groups = self.whole.groups()
        there = {key: groups[key] for key in self.source.keys} if groups else {}
        return ChoiceQuestion(OddOneOut if self.odd else Choice, self.target, dict(self.whole.soft()), there)

    def threat(self, threat: Threat) -> Threat:
        """``eps`` holds for each picture that may be changed."""
        return threat_of(self.target, threat)

    def prepared(self, batch: ImageBatch) -> ImageBatch:
        """The pixels are what may be changed; the whole triplets lie beside them."""
        assert batch.beside is not None, "a triplet has pictures beside it"
        triplets = torch.cat([batch.x[:, None], batch.beside], dim=1)
        return replace(super().prepared(batch), x=perturbed(triplets, self.target), beside=triplets)


def choice_task(name: str, config: TaskConfig, framing: Framing, *, shuffle: bool = False) -> ChoiceTask:
    """The task a recipe describes.

    Args:
        name: of the data set in the results.
        config: what the recipe says, with ``choice``.
        framing: how an image file becomes what the encoder takes.
        shuffle: go through the triplets in a random order.

    Raises:
        ConfigError: the triplets cannot be read; one line.
    """
    choice = config.choice
    assert choice is not None
    try:
        odd = choice.ask == "odd_one_out"
        whole = TripletImages(
            (open_odd_one_out if odd else open_triplets)(config.shards, config.split),
            Framing(framing.size, interpolation=choice.interpolation, mode=MODES[choice.framing]),
            name=config.shards,
            classes=ODD_CLASSES if odd else CLASSES,
        )
    except ValueError as error:
        raise ConfigError(f"tasks.{name}: {error}") from error
    return ChoiceTask(name, choose_images(whole, config.limit, shuffle=shuffle), choice, whole)
