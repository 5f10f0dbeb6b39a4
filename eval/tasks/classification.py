"""Zero-shot classification: is the image's class the one whose prompt is nearest?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from configs.files import ConfigError
from configs.schema import TaskConfig
from data.batches import ImageBatch
from data.catalog import open_images
from data.images import evaluation_batches
from data.source import ImageSource, SelectedImages, choose_images, images_named
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
        part: positions of the images that are judged here; all of them unless a shard was taken.
    """

    dataset: str
    source: ImageSource
    head: ZeroShotHead
    blank: Tensor
    tuning: ImageSource | None

    name = "classification"

    def __post_init__(self) -> None:
        self.part = range(len(self.source))

    def __len__(self) -> int:
        return len(self.part)

    def take_shard(self, number: int, count: int, multiple: int) -> None:
        """Keep the images of one shard of ``count``, ``number`` counting from 1; neighbours stay together.

        Args:
            number: 1..count.
            count: shards; all of them together hold every image once.
            multiple: shards begin at multiples of it, where neighbours change one another's results.

        Raises:
            ValueError: there are fewer images than shards.
        """
        groups = -(-len(self.source) // multiple)
        if groups < count:
            raise ValueError(f"{self.dataset} has {len(self.source)} images, too few for {count} shards; name fewer")
        ends = [groups * i // count * multiple for i in (number - 1, number)]
        self.part = range(ends[0], min(ends[1], len(self.source)))

    def batches(self, size: int) -> Iterator[ImageBatch]:
        """Batches of at most ``size`` images, each image once, always in the same order.

        Raises:
            ValueError: an image has no label, or cannot be read.
        """
        yield from self._batches(SelectedImages(self.source, self.part), size)

    def batch(self, number: int, size: int) -> ImageBatch:
        """The batch that ``batches`` yields as ``number`` from 0.

        Raises:
            ValueError: as ``batches``.
        """
        return next(self._batches(SelectedImages(self.source, self.part[number * size : (number + 1) * size]), size))

    def whole_batches(self, size: int) -> Iterator[ImageBatch]:
        """As ``batches``, of all images, whichever shard was taken."""
        yield from self._batches(self.source, size)

    def _batches(self, source: ImageSource, size: int) -> Iterator[ImageBatch]:
        for batch in evaluation_batches(source, size):
            if (batch.y < 0).any():
                key = batch.key[int((batch.y < 0).int().argmax())]
                raise ValueError(f"{self.dataset}: {key} has no label, and nothing can be right about it; leave it out")
            yield batch

    def classifier(self, encoder: ImageEncoder) -> ZeroShotClassifier:
        """Pixels to logits with this encoder."""
        return ZeroShotClassifier(encoder, self.head)


def classification_task(name: str, config: TaskConfig, clip: CLIP, *, shuffle: bool = False) -> ClassificationTask:
    """The task a recipe describes, with the text tower's embeddings of its classes.

    Args:
        name: of the data set in the results.
        config: what the recipe says.
        clip: whose text tower writes the head.
        shuffle: go through the images in a random order, in which every beginning is a fair choice.

    Raises:
        ConfigError: the set has no classes or no templates.
        ValueError: what ``data.catalog.open_images`` and the head refuse.
    """
    assert clip.text is not None, "a task needs the text tower"
    source = chosen_images(name, config, clip.image.image_size, shuffle=shuffle)
    templates = config.templates or list(source.templates)
    if not source.classes:
        raise ConfigError(f"tasks.{name}: {config.shards} names no classes; put a classnames.txt beside the shards")
    if len(source.classes) == 1:
        raise ConfigError(
            f"tasks.{name}: {config.shards} has 1 class, {source.classes[0]!r}; nothing can be mistaken for another, "
            "name a set with at least 2"
        )
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
        source=source,
        head=zero_shot_head(clip.text, source.classes, templates, logit_scale=clip.logit_scale),
        blank=blank_embedding(clip.text, templates),
        tuning=tuning and choose_images(tuning, config.limit),
    )


def chosen_images(name: str, config: TaskConfig, image_size: int | None, *, shuffle: bool = False) -> ImageSource:
    """The images that a recipe's task judges.

    Args:
        name: of the data set in the results.
        config: what the recipe says.
        image_size: side in pixels; None keeps the pictures' own sizes.
        shuffle: as for ``classification_task``.

    Raises:
        ConfigError: the list of images cannot be read.
        ValueError: what ``data.catalog.open_images`` refuses, or the list names images that are not there.
    """
    source = open_images(config.shards, config.split, image_size)
    return choose_images(_listed(name, config, source), config.limit, shuffle=shuffle)


def _listed(name: str, config: TaskConfig, source: ImageSource) -> ImageSource:
    """The images of the recipe's list, where it names one."""
    if config.ids is None:
        return source
    try:
        keys = [line.strip() for line in Path(config.ids).read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tasks.{name}.ids: {config.ids} cannot be read ({error})") from error
    return images_named(source, keys, f"tasks.{name}.ids: {config.ids}")
