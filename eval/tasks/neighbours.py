"""Classes by labelled examples, such as safe and unsafe: is a picture still told by what it is near to?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from configs.files import ConfigError
from configs.schema import TaskConfig
from configs.schema.tasks import NeighboursConfig
from data.batches import ImageBatch
from data.galleries import all_labels, open_labelled
from data.source import ImageSource, choose_images
from eval.tasks.base import Measures, Question, Task
from eval.tasks.embedding import embed_source
from eval.tasks.retrieval import PROTOCOL
from modules.attacks.base import Classifier
from modules.encoders.base import ImageEncoder
from modules.perceptual.neighbours import LinearProbe, NearestNeighbours, check_examples


class HeadClassifier:
    """Pixels to logits by a head on embeddings.

    Args:
        encoder: of the pixels.
        head: embeddings [B, D] -> logits [B, K].
    """

    def __init__(self, encoder: ImageEncoder, head: Callable[[Tensor], Tensor], /) -> None:
        self.encoder, self.head = encoder, head

    def __call__(self, x: Tensor) -> Tensor:
        """[B, K] of the pixels x [B, 3, H, W] in [0, 1]."""
        return self.encoder.logits(x, self.head)


class NeighboursQuestion(Question):
    """Which class do the nearest examples have?

    Args:
        encoder: that is asked; the examples are embedded by it and stay as they are.
        task: whose examples they are.
    """

    def __init__(self, encoder: ImageEncoder, task: NeighboursTask, /) -> None:
        self.task, config = task, task.config
        z = embed_source(encoder, task.examples, f"the examples of {task.dataset}")
        labels = torch.from_numpy(all_labels(task.examples)).to(z.device)
        self.head: nn.Module
        if config.head == "linear_probe":
            self.head = LinearProbe(z, labels, task.classes)
        else:
            temperature = config.temperature
            self.head = NearestNeighbours(
                z, labels, task.classes, k=config.k, votes=config.votes, temperature=temperature
            )

    def classifier(self, encoder: ImageEncoder, batch: ImageBatch) -> Classifier:
        """Pixels to votes, or to the probe's logits."""
        return HeadClassifier(encoder, self.head)

    def ascended(self, encoder: ImageEncoder, batch: ImageBatch) -> Classifier | None:
        """The soft margin: votes are counted, and counts have no slope."""
        return HeadClassifier(encoder, self.head.soft) if isinstance(self.head, NearestNeighbours) else None

    @torch.no_grad()
    def measures(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Measures:
        """Misses of the positive class, and false alarms of the others."""
        if self.task.positive is None:
            return {}
        found = (self.classifier(encoder, batch)(x).argmax(dim=1) == self.task.positive).tolist()
        there = (batch.y == self.task.positive).tolist()
        pairs = list(zip(found, there, strict=True))
        return {
            "false_negative": [float(not seen) if real else None for seen, real in pairs],
            "false_positive": [None if real else float(seen) for seen, real in pairs],
        }


class NeighboursTask(Task):
    """Pictures, and labelled examples to compare them with.

    Args:
        dataset: name in the results.
        source: pictures that are judged.
        examples: with all classes; the labels of ``source`` are turned into theirs.
        config: how they vote.
        resolution: side in pixels of the pictures.

    Raises:
        ValueError: classes that do not fit, or examples that teach nothing.
    """

    name = "neighbours"
    protocol = PROTOCOL

    def __init__(
        self, dataset: str, source: ImageSource, examples: ImageSource, config: NeighboursConfig, *, resolution: int = 0
    ) -> None:
        self.dataset, self.source, self.tuning = dataset, source, None
        self.examples, self.config, self.resolution = examples, config, resolution
        self.part = range(len(source))
        unknown = [name for name in source.classes if name not in examples.classes]
        if unknown:
            raise ValueError(
                f"class {unknown[0]!r} of '{source.name}' has no examples in '{examples.name}', which has "
                f"{', '.join(examples.classes[:8])}"
            )
        if config.positive is not None and config.positive not in examples.classes:
            raise ValueError(
                f"neighbours.positive: {config.positive!r} is none of the classes: {', '.join(examples.classes)}"
            )
        check_examples(torch.from_numpy(all_labels(examples)), examples.classes)
        if config.head == "knn" and config.k > len(examples):
            raise ValueError(
                f"{config.k} neighbours cannot be found among {len(examples)} examples; lower neighbours.k"
            )
        self.positive = None if config.positive is None else examples.classes.index(config.positive)
        self._number = torch.tensor([examples.classes.index(name) for name in source.classes])

    @property
    def classes(self) -> list[str]:
        """Those of the examples."""
        return self.examples.classes

    @property
    def qualifiers(self) -> list[str]:
        """A protocol of ours."""
        return [f"protocol {PROTOCOL}, {self._head}"]

    @property
    def _head(self) -> str:
        config = self.config
        return "linear probe" if config.head == "linear_probe" else f"{config.k} neighbours by {config.votes}"

    @property
    def origin(self) -> dict[str, Any]:
        """What was opened."""
        counts = torch.from_numpy(all_labels(self.examples)).bincount(minlength=len(self.classes)).tolist()
        return {
            "protocol": PROTOCOL,
            "count": len(self.source),
            "head": self._head,
            "examples": dict(zip(self.classes, counts, strict=True)),
            "positive": self.config.positive or "",
        }

    def question(self, encoder: ImageEncoder) -> NeighboursQuestion:
        """Which class do the nearest examples have?"""
        return NeighboursQuestion(encoder, self)

    def prepared(self, batch: ImageBatch) -> ImageBatch:
        """Labels in the examples' numbers."""
        batch = super().prepared(batch)
        return replace(batch, y=self._number.to(batch.y.device)[batch.y])

    def hidden(self, batch: ImageBatch) -> list[bool]:
        """Pictures of the positive class, and all pictures where no class is named so; none without ``blur``."""
        if self.positive is None or not self.config.blur:
            return [self.config.blur] * len(batch)
        return (batch.y == self.positive).tolist()


def neighbours_task(name: str, config: TaskConfig, image_size: int, *, shuffle: bool = False) -> NeighboursTask:
    """The task a recipe describes.

    Args:
        name: of the data set in the results.
        config: what the recipe says, with ``neighbours``.
        image_size: side in pixels that the encoder looks at.
        shuffle: go through the pictures in a random order.

    Raises:
        ConfigError: the pictures cannot be read, or nothing can be learned from them; one line.
    """
    said = config.neighbours
    assert said is not None
    try:
        examples = open_labelled(said.examples, said.examples_split, image_size)
        whole = open_labelled(config.shards, config.split, image_size)
        source = choose_images(whole, config.limit, shuffle=shuffle)
        return NeighboursTask(name, source, examples, said, resolution=image_size)
    except ValueError as error:
        raise ConfigError(f"tasks.{name}: {error}") from error
