"""What an encoder is judged by: pictures with a question."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from data.batches import ImageBatch
from data.images import evaluation_batches
from data.source import ImageSource, SelectedImages
from modules.attacks.base import Classifier
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat
from modules.zero_shot import ZeroShotHead

Measures = dict[str, list[float | None]]
"""Further numbers of the samples of a batch, by metric; None where a sample has none."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """What each of some queries found first.

    Attributes:
        x: [B, N, 3, H, W] pictures in [0, 1].
        marks: for each query N words on what was found, such as ``relevant``.
    """

    x: Tensor
    marks: list[list[str]]


class Question(ABC):
    """What is asked about each sample behind one encoder, as a classification that attacks can search.

    Questions that read a gallery or examples embed them by that encoder, once.
    """

    @abstractmethod
    def classifier(self, encoder: ImageEncoder, batch: ImageBatch) -> Classifier:
        """What decides: the pixels of the batch's samples -> logits [B, K].

        Args:
            encoder: that looks: the one asked, or one that an attacker puts in its place.
            batch: the samples, on the encoder's device.
        """

    def ascended(self, encoder: ImageEncoder, batch: ImageBatch) -> Classifier | None:
        """What attacks ascend instead, where the decision has no slope; None where it has one."""
        return None

    def measures(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Measures:
        """Further numbers of each sample of the batch, looking at pixels x instead of its own."""
        return {}

    def ranking(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Ranking | None:
        """What each sample finds first, looking at pixels x instead of its own; None where nothing is looked for."""
        return None


class Task(ABC):
    """Samples that an encoder is asked about.

    Attributes:
        name: of the kind of task, in the results.
        dataset: name in the results.
        source: the samples that are judged.
        tuning: other samples, for what a defence calibrates; None where the set has none.
        classes: K names of the answers.
        images: of a sample, behind one another along the channels of the pixels that may be changed.
        resolution: side in pixels of the images; 0 where it is not known.
        prompts: hash of class names and templates; empty where it is not known.
        qualifiers: what every row must be read with.
        part: positions of the samples that are judged here; all of them unless a shard was taken.
        protocol: that every row is of; empty if of none.
        transfer: whether attacks on the original encoder are tried too.
        persistent: attacks go on with a sample that has fallen, for the sake of its measures.
    """

    name: str
    dataset: str
    source: ImageSource
    tuning: ImageSource | None
    images: int = 1
    resolution: int = 0
    prompts: str = ""
    part: range
    protocol: str = ""
    transfer: bool = False
    persistent: bool = False

    @property
    @abstractmethod
    def classes(self) -> list[str]:
        """K names of the answers."""

    @property
    def zero_shot(self) -> ZeroShotHead | None:
        """What reads zero-shot classes off embeddings; None where the question is another one."""
        return None

    @property
    def class_free(self) -> Tensor | None:
        """[D] embedding of the set's class-free prompts, for CLIPure-Cos; None where it has none of its own."""
        return None

    @property
    def origin(self) -> dict[str, Any]:
        """Where the samples are from, as far as a catalog says it; for the file of outcomes."""
        return {}

    @property
    def qualifiers(self) -> list[str]:
        """What every row must be read with."""
        return []

    def hidden(self, batch: ImageBatch) -> list[bool]:
        """Which of the batch's samples must not be shown plainly, nor their pictures be written."""
        return [False] * len(batch)

    @abstractmethod
    def question(self, encoder: ImageEncoder) -> Question:
        """What is asked behind this encoder, bare or defended."""

    def threat(self, threat: Threat) -> Threat:
        """The threat of this task's pixels: of one image, unless several of a sample are perturbed."""
        return threat

    def notes(self) -> list[dict[str, Any]]:
        """What a report says of the samples."""
        return []

    def around(self, encoder: ImageEncoder) -> ImageEncoder:
        """The encoder as it is judged here."""
        return encoder

    def prepared(self, batch: ImageBatch) -> ImageBatch:
        """A batch as it is attacked and judged: its ``x`` are the pixels that may be changed.

        Raises:
            ValueError: a sample has no label.
        """
        if (batch.y < 0).any():
            key = batch.key[int((batch.y < 0).int().argmax())]
            raise ValueError(f"{self.dataset}: {key} has no label, and nothing can be right about it; leave it out")
        return batch

    def __len__(self) -> int:
        return len(self.part)

    def take_shard(self, number: int, count: int, multiple: int) -> None:
        """Keep the samples of one shard of ``count``, ``number`` counting from 1; neighbours stay together.

        Args:
            number: 1..count.
            count: shards; all of them together hold every sample once.
            multiple: shards begin at multiples of it, where neighbours change one another's results.

        Raises:
            ValueError: there are fewer samples than shards.
        """
        groups = -(-len(self.source) // multiple)
        if groups < count:
            raise ValueError(f"{self.dataset} has {len(self.source)} images, too few for {count} shards; name fewer")
        ends = [groups * i // count * multiple for i in (number - 1, number)]
        self.part = range(ends[0], min(ends[1], len(self.source)))

    def batches(self, size: int) -> Iterator[ImageBatch]:
        """Batches of at most ``size`` samples, each once, always in the same order.

        Raises:
            ValueError: a sample has no label, or cannot be read.
        """
        yield from self._batches(SelectedImages(self.source, self.part), size)

    def batch(self, number: int, size: int) -> ImageBatch:
        """The batch that ``batches`` yields as ``number`` from 0.

        Raises:
            ValueError: as ``batches``.
        """
        return next(self._batches(SelectedImages(self.source, self.part[number * size : (number + 1) * size]), size))

    def whole_batches(self, size: int) -> Iterator[ImageBatch]:
        """As ``batches``, of all samples, whichever shard was taken."""
        yield from self._batches(self.source, size)

    def tuning_batches(self, size: int) -> Iterator[ImageBatch]:
        """As ``batches``, of the tuning split."""
        assert self.tuning is not None
        yield from self._batches(self.tuning, size)

    def _batches(self, source: ImageSource, size: int) -> Iterator[ImageBatch]:
        for batch in evaluation_batches(source, size):
            yield self.prepared(batch)
