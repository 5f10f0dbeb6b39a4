"""Zero-shot classification: is the image's class the one whose prompt is nearest?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from configs.files import ConfigError
from configs.schema import TaskConfig
from data.batches import ImageBatch
from data.catalog import open_images
from data.images import evaluation_batches
from data.source import ImageSource, choose_images
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIP
from modules.zero_shot import ZeroShotClassifier, ZeroShotHead, blank_embedding, zero_shot_head


@dataclass
class ClassificationTask:
    """A data set with its zero-shot head.

    Attributes:
        dataset: name in the results.
        source: the images that are judged.
        head: classes as directions.
        blank: [D] embedding of the templates with no class, for CLIPure-Cos.
        tuning: other images, for what a defence calibrates; None where the set has none.
    """

    dataset: str
    source: ImageSource
    head: ZeroShotHead
    blank: Tensor
    tuning: ImageSource | None

    name = "classification"

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, size: int) -> Iterator[ImageBatch]:
        """Batches of at most ``size`` images, each image once, always in the same order.

        Raises:
            ValueError: an image has no label, or cannot be read.
        """
        for batch in evaluation_batches(self.source, size):
            if (batch.y < 0).any():
                key = batch.key[int((batch.y < 0).int().argmax())]
                raise ValueError(f"{self.dataset}: {key} has no label, and nothing can be right about it; leave it out")
            yield batch

    def classifier(self, encoder: ImageEncoder) -> ZeroShotClassifier:
        """Pixels to logits with this encoder."""
        return ZeroShotClassifier(encoder, self.head)


def classification_task(name: str, config: TaskConfig, clip: CLIP) -> ClassificationTask:
    """The task a recipe describes, with the text tower's embeddings of its classes.

    Args:
        name: of the data set in the results.
        config: what the recipe says.
        clip: whose text tower writes the head.

    Raises:
        ConfigError: the set has no classes or no templates.
        ValueError: what ``data.catalog.open_images`` and the head refuse.
    """
    assert clip.text is not None, "a task needs the text tower"
    source = open_images(config.shards, config.split, clip.image.image_size)
    templates = config.templates or list(source.templates)
    if not source.classes:
        raise ConfigError(f"tasks.{name}: {config.shards} names no classes; put a classnames.txt beside the shards")
    if not templates:
        raise ConfigError(
            f"tasks.{name}: {config.shards} has no templates; say tasks.{name}.templates=['a photo of a {{}}.']"
        )
    tuning = None
    if config.tune_split != config.split:
        try:
            tuning = open_images(config.shards, config.tune_split, clip.image.image_size)
        except ValueError:
            tuning = None  # not every set has a tuning split; who needs one says so
    return ClassificationTask(
        dataset=name,
        source=choose_images(source, config.limit),
        head=zero_shot_head(clip.text, source.classes, templates, logit_scale=clip.logit_scale),
        blank=blank_embedding(clip.text, templates),
        tuning=tuning and choose_images(tuning, config.limit),
    )
