"""Filtering by a reference set: is what is too near to it still kept out?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from configs.files import ConfigError
from configs.schema import TaskConfig
from configs.schema.tasks import FilteringConfig
from data.batches import ImageBatch
from data.copies import LabelledSources, NearCopies
from data.framing import Framing
from data.galleries import of_class, open_labelled, open_reference
from data.source import ImageSource, choose_images
from eval.tasks.base import Measures, Question, Task
from eval.tasks.embedding import embed_source
from eval.tasks.neighbours import HeadClassifier
from eval.tasks.retrieval import PROTOCOL
from eval.tasks.tuned import tuning_pictures
from modules.defenses.gates import cut_at
from modules.encoders.base import ImageEncoder
from modules.perceptual.retrieval import Gallery

CLASSES = ("kept", "filtered out")


class FilteringQuestion(Question):
    """Is the nearest reference picture nearer than the threshold?

    Args:
        encoder: that is asked; reference and tuning pictures are embedded by it, and its threshold is set.
        task: whose they are.
    """

    def __init__(self, encoder: ImageEncoder, task: FilteringTask, /) -> None:
        self.gallery = Gallery(embed_source(encoder, task.reference, f"the reference set of {task.dataset}"))
        tuned = embed_source(encoder, task.wanted, f"the threshold of {task.dataset}")
        nearest = torch.cat([self.gallery.similarity(part).amax(dim=1) for part in tuned.split(1024)])
        cut = cut_at(task.config.false_positive_rate, nearest)
        assert cut is not None, "the task has counted its tuning pictures"
        self.threshold = cut

    def classifier(self, encoder: ImageEncoder, batch: ImageBatch) -> HeadClassifier:
        """Pixels to the threshold and the largest cosine to the reference set."""
        return HeadClassifier(encoder, self._head)

    @torch.no_grad()
    def measures(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Measures:
        """Largest cosine to the reference set, of both sides; what slipped through, and what was kept out in vain."""
        logits = self.classifier(encoder, batch)(x)
        nearest, out = logits[:, 1].clamp(0, 1).tolist(), (logits[:, 1] > logits[:, 0]).tolist()
        unwanted = batch.y.bool().tolist()
        rows = list(zip(nearest, out, unwanted, strict=True))
        return {
            "similarity_unwanted": [cosine if there else None for cosine, _, there in rows],
            "similarity_wanted": [None if there else cosine for cosine, _, there in rows],
            "evaded": [float(not gone) if there else None for _, gone, there in rows],
            "false_alarm": [None if there else float(gone) for _, gone, there in rows],
        }

    def _head(self, z: Tensor) -> Tensor:
        nearest = self.gallery.similarity(z).amax(dim=1)
        return torch.stack([torch.full_like(nearest, self.threshold), nearest], dim=1)


class FilteringTask(Task):
    """Pictures that are let in or kept out, by their likeness to a reference set.

    Args:
        dataset: name in the results.
        source: pictures that are judged; label 1 is to be kept out.
        reference: what nothing let in may be near to.
        wanted: tuning pictures that are to be let in, none of which is judged.
        config: the rate of false alarms.
        resolution: side in pixels of the pictures.
    """

    name = "filtering"
    protocol = PROTOCOL
    persistent = True

    def __init__(
        self,
        dataset: str,
        source: ImageSource,
        reference: ImageSource,
        wanted: ImageSource,
        config: FilteringConfig,
        *,
        resolution: int = 0,
    ) -> None:
        self.dataset, self.source, self.tuning = dataset, source, None
        self.reference, self.wanted, self.config = reference, wanted, config
        self.resolution, self.part = resolution, range(len(source))

    @property
    def classes(self) -> list[str]:
        """What becomes of a picture."""
        return list(CLASSES)

    @property
    def qualifiers(self) -> list[str]:
        """A protocol of ours."""
        return [f"protocol {PROTOCOL}, threshold at {100 * self.config.false_positive_rate:g} % false positives"]

    @property
    def origin(self) -> dict[str, Any]:
        """What was opened."""
        return {
            "protocol": PROTOCOL,
            "count": len(self.source),
            "reference": len(self.reference),
            "tuning": len(self.wanted),
            "false_positive_rate": self.config.false_positive_rate,
            "unwanted": self.config.positive or "near copies of the reference pictures",
        }

    def question(self, encoder: ImageEncoder) -> FilteringQuestion:
        """Is it let in?"""
        return FilteringQuestion(encoder, self)

    def hidden(self, batch: ImageBatch) -> list[bool]:
        """Pictures that are to be kept out, unless the recipe shows them."""
        return (batch.y.bool() & self.config.blur).tolist()


def filtering_task(name: str, config: TaskConfig, framing: Framing, *, shuffle: bool = False) -> FilteringTask:
    """The task a recipe describes.

    Args:
        name: of the data set in the results.
        config: what the recipe says, with ``filtering``.
        framing: how an image file becomes what the encoder takes.
        shuffle: go through the pictures in a random order.

    Raises:
        ConfigError: the pictures cannot be read, there are too few to set a threshold by, or those that set it would
            be judged; one line.
    """
    said = config.filtering
    assert said is not None
    try:
        reference = open_reference(said.reference, said.reference_split, framing)
        judged = open_labelled(config.shards, config.split, framing)
        rate, key = said.false_positive_rate, "filtering.false_positive_rate"
        tuned = tuning_pictures(config, judged, framing, rate=rate, key=key, unwanted=said.positive)
        if said.positive is None:
            unwanted: ImageSource = NearCopies(reference)
        else:
            unwanted = of_class(judged, said.positive)
            judged = of_class(judged, said.positive, others=True)
            reference = of_class(reference, said.positive) if said.positive in reference.classes else reference
        both = LabelledSources([judged, unwanted], CLASSES, name=config.shards)
        source = choose_images(both, config.limit, shuffle=shuffle)
        return FilteringTask(name, source, reference, tuned, said, resolution=framing.side)
    except ValueError as error:
        raise ConfigError(f"tasks.{name}: {error}") from error
