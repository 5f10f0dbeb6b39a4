"""Classes by labelled examples, such as safe and unsafe: is a picture still told by what it is near to?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from configs.files import ConfigError
from configs.schema import TaskConfig
from configs.schema.tasks import NeighboursConfig
from data.batches import ImageBatch
from data.framing import Framing
from data.galleries import all_labels, open_labelled
from data.source import ImageSource, choose_images
from eval.tasks.base import Measures, Question, Task
from eval.tasks.embedding import embed_source
from eval.tasks.retrieval import PROTOCOL
from eval.tasks.tuned import tuning_pictures
from modules.attacks.base import Classifier
from modules.defenses.gates import cut_at
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
        encoder: that is asked; the examples are embedded by it and stay as they are, and its threshold is set.
        task: whose examples they are.
    """

    def __init__(self, encoder: ImageEncoder, task: NeighboursTask, /) -> None:
        self.task, config = task, task.config
        z = embed_source(encoder, task.examples, f"the examples of {task.dataset}")
        labels = task.numbers_of(task.examples).to(z.device)
        self.head: nn.Module
        if config.head == "linear_probe":
            self.head = LinearProbe(z, labels, task.classes)
        else:
            temperature = config.temperature
            self.head = NearestNeighbours(
                z, labels, task.classes, k=config.k, votes=config.votes, temperature=temperature
            )
        self.smooth = self.head.soft if isinstance(self.head, NearestNeighbours) else self.head
        self.threshold = 0.0 if task.tuned is None else self._cut(encoder, task.tuned)

    def classifier(self, encoder: ImageEncoder, batch: ImageBatch) -> Classifier:
        """Pixels to votes, or to the probe's logits; with a threshold, to what has to be ahead by it.

        Votes are counted, and too often equal to set a threshold by: it is one of the soft margin.
        """
        return HeadClassifier(encoder, self.head if self.task.tuned is None else self._beyond)

    def ascended(self, encoder: ImageEncoder, batch: ImageBatch) -> Classifier | None:
        """The soft margin where votes are counted: counts have no slope."""
        counted = isinstance(self.head, NearestNeighbours) and self.task.tuned is None
        return HeadClassifier(encoder, self.smooth) if counted else None

    @torch.no_grad()
    def measures(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Measures:
        """Misses of what is to be detected, and false alarms."""
        if self.task.config.positive is None:
            return {}
        found = self.classifier(encoder, batch)(x).argmax(dim=1).bool().tolist()
        pairs = list(zip(found, batch.y.bool().tolist(), strict=True))
        return {
            "false_negative": [float(not seen) if real else None for seen, real in pairs],
            "false_positive": [None if real else float(seen) for seen, real in pairs],
        }

    def _cut(self, encoder: ImageEncoder, tuned: ImageSource) -> float:
        z = embed_source(encoder, tuned, f"the threshold of {self.task.dataset}")
        margins = torch.cat([self.smooth(part).diff(dim=1).flatten() for part in z.split(1024)])
        rate = self.task.config.false_positive_rate
        cut = None if rate is None else cut_at(rate, margins)
        assert cut is not None, "the task has counted its tuning pictures"
        return cut

    def _beyond(self, z: Tensor) -> Tensor:
        logits = self.smooth(z)
        return torch.stack([logits[:, 0] + self.threshold, logits[:, 1]], dim=1)


class NeighboursTask(Task):
    """Pictures, and labelled examples to compare them with.

    With a class that is to be detected there are two answers, everything else (0) and that class (1).

    Args:
        dataset: name in the results.
        source: pictures that are judged; their labels are turned into the numbers of the answers.
        examples: with all classes.
        config: how they vote.
        resolution: side in pixels of the pictures.
        tuned: pictures without the class that is to be detected, by which its threshold is set; None sets none.

    Raises:
        ValueError: classes that do not fit, or examples that teach nothing.
    """

    name = "neighbours"
    protocol = PROTOCOL

    def __init__(
        self,
        dataset: str,
        source: ImageSource,
        examples: ImageSource,
        config: NeighboursConfig,
        *,
        resolution: int = 0,
        tuned: ImageSource | None = None,
    ) -> None:
        self.dataset, self.source, self.tuning = dataset, source, None
        self.examples, self.config, self.resolution, self.tuned = examples, config, resolution, tuned
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

    @property
    def classes(self) -> list[str]:
        """Those of the examples; or all others together, and the one that is to be detected."""
        others = [name for name in self.examples.classes if name != self.config.positive]
        if self.config.positive is None:
            return others
        return [others[0] if len(others) == 1 else "any other class", self.config.positive]

    def numbers_of(self, source: ImageSource) -> Tensor:
        """[N] the number of each picture's answer."""
        return self._numbers(source.classes)[torch.from_numpy(all_labels(source))]

    def _numbers(self, names: Sequence[str]) -> Tensor:
        if self.config.positive is not None:
            return torch.tensor([int(name == self.config.positive) for name in names])
        return torch.tensor([self.examples.classes.index(name) for name in names])

    @property
    def qualifiers(self) -> list[str]:
        """A protocol of ours."""
        return [f"protocol {PROTOCOL}, {self._head}"]

    @property
    def _head(self) -> str:
        config = self.config
        voting = f"{config.k} neighbours by {config.votes}" if self.tuned is None else "soft margin of all neighbours"
        head = "linear probe" if config.head == "linear_probe" else voting
        rate = config.false_positive_rate
        return head if rate is None else f"{head}, threshold at {100 * rate:g} % false positives"

    @property
    def origin(self) -> dict[str, Any]:
        """What was opened."""
        counts = self.numbers_of(self.examples).bincount(minlength=len(self.classes)).tolist()
        return {
            "protocol": PROTOCOL,
            "count": len(self.source),
            "head": self._head,
            "examples": dict(zip(self.classes, counts, strict=True)),
            "positive": self.config.positive or "",
            "tuning": 0 if self.tuned is None else len(self.tuned),
        }

    def question(self, encoder: ImageEncoder) -> NeighboursQuestion:
        """Which class do the nearest examples have?"""
        return NeighboursQuestion(encoder, self)

    def prepared(self, batch: ImageBatch) -> ImageBatch:
        """Labels in the answers' numbers."""
        batch = super().prepared(batch)
        return replace(batch, y=self._numbers(self.source.classes).to(batch.y.device)[batch.y])

    def hidden(self, batch: ImageBatch) -> list[bool]:
        """Pictures of the positive class, and all pictures where no class is named so; none without ``blur``."""
        if self.config.positive is None or not self.config.blur:
            return [self.config.blur] * len(batch)
        return batch.y.bool().tolist()


def neighbours_task(name: str, config: TaskConfig, framing: Framing, *, shuffle: bool = False) -> NeighboursTask:
    """The task a recipe describes.

    Args:
        name: of the data set in the results.
        config: what the recipe says, with ``neighbours``.
        framing: how an image file becomes what the encoder takes.
        shuffle: go through the pictures in a random order.

    Raises:
        ConfigError: the pictures cannot be read, nothing can be learned from them, or they are too few for a threshold;
            one line.
    """
    said = config.neighbours
    assert said is not None
    try:
        examples = open_labelled(said.examples, said.examples_split, framing)
        whole = open_labelled(config.shards, config.split, framing)
        source = choose_images(whole, config.limit, shuffle=shuffle)
        rate, tuned = said.false_positive_rate, None
        if rate is not None:
            key = "neighbours.false_positive_rate"
            tuned = tuning_pictures(config, whole, framing, rate=rate, key=key, unwanted=said.positive)
        return NeighboursTask(name, source, examples, said, resolution=framing.side, tuned=tuned)
    except ValueError as error:
        raise ConfigError(f"tasks.{name}: {error}") from error
