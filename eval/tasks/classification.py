"""Zero-shot classification: is the image's class the one whose prompt is nearest?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from configs.files import ConfigError
from configs.schema import TaskConfig
from data.batches import ImageBatch
from data.benchmarks.opening import Benchmark
from data.benchmarks.texts import prompts_hash
from data.catalog import open_images
from data.framing import Framing
from data.source import ImageSource, choose_images, prompts_fault, same_files
from eval.framing import framing_of
from eval.tasks.base import Question, Task
from eval.tasks.benchmarks import listed, open_task
from eval.texts import text_memory
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIP
from modules.encoders.resized import Resized
from modules.zero_shot import ZeroShotClassifier, ZeroShotHead, blank_embedding, zero_shot_head


class ZeroShotQuestion(Question):
    """Which class's direction is nearest?

    Args:
        head: classes as directions.
    """

    def __init__(self, head: ZeroShotHead, /) -> None:
        self.head = head

    def classifier(self, encoder: ImageEncoder, batch: ImageBatch) -> ZeroShotClassifier:
        """Pixels to logits with this encoder."""
        return ZeroShotClassifier(encoder, self.head)


@dataclass
class ClassificationTask(Task):
    """A data set with its zero-shot head.

    Attributes:
        dataset: name in the results.
        source: the images that are judged.
        head: classes as directions.
        blank: [D] embedding of the templates with no class, for CLIPure-Cos.
        tuning: other images, for what a defence calibrates; None where the set has none.
        resolution: side in pixels of the images; 0 where it is not known.
        prompts: hash of class names and templates; empty where it is not known.
        benchmark: what the catalog says of the set; None where the recipe names no set of it.
        part: positions of the images that are judged here; all of them unless a shard was taken.
    """

    dataset: str
    source: ImageSource
    head: ZeroShotHead
    blank: Tensor
    tuning: ImageSource | None
    resolution: int = 0
    prompts: str = ""
    benchmark: Benchmark | None = None

    name = "classification"

    @staticmethod
    def of(task: Task) -> ClassificationTask:
        """The task, where it is zero-shot classification.

        Raises:
            ConfigError: it is not.
        """
        if not isinstance(task, ClassificationTask):
            raise ConfigError(f"tasks.{task.dataset} is no zero-shot classification; judge it with robustclip evaluate")
        return task

    def __post_init__(self) -> None:
        self.part = range(len(self.source))
        self._around: tuple[ImageEncoder, Resized] | None = None

    @property
    def zero_shot(self) -> ZeroShotHead:
        """The head."""
        return self.head

    @property
    def class_free(self) -> Tensor:
        """The templates with no class."""
        return self.blank

    @property
    def classes(self) -> list[str]:
        """K names."""
        return self.head.classes

    def question(self, encoder: ImageEncoder) -> ZeroShotQuestion:
        """Which class is it?"""
        return ZeroShotQuestion(self.head.to(next(encoder.parameters()).device))

    @property
    def origin(self) -> dict[str, Any]:
        """What was opened: counts, hashes, class names and templates."""
        if self.benchmark is None:
            return {}
        return {**self.benchmark.record(), "names": self.benchmark.names, "templates": self.benchmark.templates}

    @property
    def qualifiers(self) -> list[str]:
        """What every row must be read with."""
        return list(self.benchmark.qualifiers) if self.benchmark else []

    def notes(self) -> list[dict[str, Any]]:
        """What a report says of the images."""
        told = [*self.benchmark.qualifiers, *self.benchmark.notes] if self.benchmark else []
        return [{"title": f"{self.dataset}: the data", "text": text.rstrip(".") + "."} for text in told]

    def around(self, encoder: ImageEncoder) -> ImageEncoder:
        """The encoder as it is judged here: where images are attacked at their own size, with the resize inside."""
        if self.benchmark is None or not self.benchmark.native or isinstance(encoder, Resized):
            return encoder
        if self._around is None or self._around[0] is not encoder:
            entry = self.benchmark.entry
            self._around = encoder, Resized(encoder, size=self.resolution, antialias=entry.antialias)
        return self._around[1]

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
        ConfigError: the set has no classes or no templates, or is not what the catalog expects.
        ValueError: what ``data.catalog.open_images`` and the head refuse.
    """
    assert clip.text is not None, "a task needs the text tower"
    framing = framing_of(clip.image)
    benchmark = open_task(name, config, framing.side) if config.dataset else None
    whole = benchmark.source if benchmark else open_images(config.shards, config.split, framing)
    source = choose_images(listed(name, config, whole, benchmark), config.limit, shuffle=shuffle)
    classes = benchmark.names if benchmark else source.classes
    templates = benchmark.templates if benchmark else config.templates or list(source.templates)
    _check_prompts(name, config, source, classes, templates)
    tuning = _tuning_images(name, config, framing, whole)
    ties = benchmark is not None and benchmark.entry.ties
    scale = clip.logit_scale if config.logit_scale is None else config.logit_scale
    memory = text_memory()
    return ClassificationTask(
        dataset=name,
        source=source,
        head=zero_shot_head(
            clip.text, classes, templates, logit_scale=scale, logit_bias=clip.logit_bias, ties=ties, memory=memory
        ),
        blank=blank_embedding(clip.text, templates, memory=memory),
        tuning=tuning and choose_images(tuning, config.limit),
        resolution=benchmark.resolution if benchmark else framing.side,
        prompts=prompts_hash(classes, templates),
        benchmark=benchmark,
    )


def _check_prompts(
    name: str, config: TaskConfig, source: ImageSource, classes: list[str], templates: list[str]
) -> None:
    if fault := prompts_fault(source, classes, templates):
        remedy = "" if templates else f"; say tasks.{name}.templates=['a photo of a {{}}.']"
        raise ConfigError(f"tasks.{name}: {config.shards} {fault}{remedy}")


def _tuning_images(name: str, config: TaskConfig, framing: Framing, judged: ImageSource) -> ImageSource | None:
    """Other images than those that are judged; None where the set has none: who needs them says so."""
    if config.tune_split == config.split:
        return None
    try:
        if config.dataset:
            return open_task(name, config, framing.side, split=config.tune_split).source
        found = open_images(config.shards, config.tune_split, framing)
    except ValueError:
        return None
    return None if same_files(found, judged) else found


def chosen_images(name: str, config: TaskConfig, framing: Framing, *, shuffle: bool = False) -> ImageSource:
    """The images that a recipe's task judges.

    Args:
        name: of the data set in the results.
        config: what the recipe says.
        framing: how an image file becomes what the model takes.
        shuffle: as for ``classification_task``.

    Raises:
        ConfigError: the list of images cannot be read, or the data is not what the catalog expects.
        ValueError: what ``data.catalog.open_images`` refuses, or the list names images that are not there.
    """
    benchmark = open_task(name, config, framing.side) if config.dataset else None
    source = benchmark.source if benchmark else open_images(config.shards, config.split, framing)
    return choose_images(listed(name, config, source, benchmark), config.limit, shuffle=shuffle)
