"""What a source of pictures is, pictures in memory, and a fair choice of some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from data.bad_samples import Found
from data.batches import ImageSample
from data.keys import ChosenKeys, ShardKeys
from data.plan import sample_indices
from data.shard_order import ShardOrder
from data.transforms import to_unit_pixels


class ImageSource(Dataset[ImageSample]):
    """Pictures by index, with the names of their classes and the templates of their prompts.

    Attributes:
        name: for reports.
        keys: one unique name per sample.
        shuffle: how training goes through it, as ``PositionBatches`` takes it.
        classes: class names in the order of the labels; empty where pictures have no labels.
        templates: prompts with ``{}`` for the class name.
        bad_samples: those found bad, by their places in the source that reads them; None where none is passed over.
        places: files or folder that it reads; empty where it is in memory.
    """

    def __init__(self, *, name: str, keys: Sequence[str], classes: Sequence[str], templates: Sequence[str]) -> None:
        check_classes(classes, f"the classes of '{name}'")
        self.name = name
        self.keys = keys if isinstance(keys, ShardKeys | ChosenKeys) else list(keys)
        self.shuffle: bool | ShardOrder = True
        self.classes = list(classes)
        self.templates = list(templates)
        self.bad_samples: Found | None = None
        self.places: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> ImageSample:
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """The samples at ``indices``, in that order."""
        return [self[i] for i in indices]

    def bad(self) -> dict[str, int]:
        """How many samples have been found bad and passed over so far, by reason."""
        return {} if self.bad_samples is None else self.bad_samples.counts()["bad"]

    def fetcher(self) -> Callable[[int], None] | None:
        """What has a shard at hand, by number; None where none has to be fetched."""
        return None


def check_classes(classes: Sequence[str], where: str) -> None:
    """Refuse a list that gives two classes one name: their prompts could not be told apart.

    Raises:
        ValueError: naming the class and its lines, counted from 1.
    """
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        found = []
        for name in twice:
            lines = [str(i) for i, other in enumerate(classes, 1) if other == name]
            found.append(f"'{name}' on lines {', '.join(lines)}")
        raise ValueError(f"{where} hold duplicates: {'; '.join(found)}; give each class its own name")


def same_files(one: ImageSource, other: ImageSource) -> bool:
    """Whether two splits are the same files: what has no splits is taken as it is, whichever one is asked for."""
    return bool(one.places) and one.places == other.places


def prompts_fault(source: ImageSource, classes: Sequence[str], templates: Sequence[str]) -> str:
    """Why a source cannot be classified by prompts, as what follows its name in a sentence; empty where it can."""
    if not classes:
        return f"names no classes; {missing_classes(source)}"
    if len(classes) == 1:
        return f"has 1 class, {classes[0]!r}; nothing can be mistaken for another, name a set with at least 2"
    return "" if templates else "has no templates"


def missing_classes(source: ImageSource) -> str:
    """What to do about a source without class names, in words."""
    shards = not source.places or source.places[0].endswith(".tar")
    return "put a classnames.txt beside the shards" if shards else "sort the images into one folder per class"


class ArrayImages(ImageSource):
    """Pictures in memory.

    Args:
        pixels: [N, H, W, 3] uint8.
        labels: [N] integers, -1 where there is no label.
        keys: N unique names.
        captions: N texts, or None.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        keys: Sequence[str],
        *,
        name: str = "array",
        classes: Sequence[str] = (),
        templates: Sequence[str] = (),
        captions: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name=name, keys=keys, classes=classes, templates=templates)
        if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be [N, H, W, 3] uint8, not {pixels.shape} {pixels.dtype}")
        self.pixels = pixels
        self.labels = [int(label) for label in labels]
        self.captions = None if captions is None else list(captions)
        lengths = {len(pixels), len(self.labels), len(self.keys), len(self.captions or self.keys)}
        if len(lengths) > 1 or len(set(self.keys)) < len(self.keys):
            raise ValueError(f"'{name}' needs a label and a unique key for each of its {len(pixels)} pictures")
        for key, label in zip(self.keys, self.labels, strict=True):
            check_label(label, len(self.classes), f"sample '{key}'")

    def __getitem__(self, index: int) -> ImageSample:
        x = to_unit_pixels(self.pixels[index])
        caption = None if self.captions is None else self.captions[index]
        return ImageSample(x, self.labels[index], self.keys[index], caption)


class TensorImages(ImageSource):
    """Pictures that are tensors already, at full precision.

    Args:
        x: [N, 3, H, W] float in [0, 1].
        y: [N] class indices.
        keys: N unique names; ``0``, ``1``, … where none are given.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        classes: Sequence[str],
        keys: Sequence[str] | None = None,
        name: str = "tensors",
    ) -> None:
        super().__init__(name=name, keys=keys or [str(i) for i in range(len(x))], classes=classes, templates=())
        if x.dim() != 4 or not x.is_floating_point() or x.numel() == 0 or not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(f"images must be [N, C, H, W] floats in [0, 1], not {list(x.shape)} {x.dtype}")
        if not len(x) == len(y) == len(self.keys) == len(set(self.keys)):
            raise ValueError(f"'{name}' needs a label and a unique key for each of its {len(x)} pictures")
        self.x, self.y = x.detach().cpu(), [int(label) for label in y]
        for key, label in zip(self.keys, self.y, strict=True):
            check_label(label, len(self.classes), f"sample '{key}'")

    def __getitem__(self, index: int) -> ImageSample:
        return ImageSample(self.x[index], self.y[index], self.keys[index])


class SelectedImages(ImageSource):
    """Some samples of another source, in the order of ``indices``."""

    def __init__(self, source: ImageSource, indices: Sequence[int]) -> None:
        chosen = np.asarray(indices, dtype=np.int64)
        keys = ChosenKeys(source.keys, chosen)
        super().__init__(name=source.name, keys=keys, classes=source.classes, templates=source.templates)
        self.source, self.indices, self.bad_samples = source, chosen, source.bad_samples
        self.places = source.places
        if isinstance(source.shuffle, ShardOrder) and (np.diff(chosen) > 0).all():
            self.shuffle = source.shuffle.of_some(chosen)

    def __getitem__(self, index: int) -> ImageSample:
        return self.source[int(self.indices[index])]

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """The samples at ``indices``, in that order."""
        return self.source.__getitems__(self.indices[list(indices)].tolist())

    def fetcher(self) -> Callable[[int], None] | None:
        """As the source."""
        return self.source.fetcher()


def choose_images(source: ImageSource, count: int | None, *, seed: int = 0, shuffle: bool = False) -> ImageSource:
    """``count`` samples drawn over the whole source by ``seed``; None means all.

    The first ones would not do: stored test sets are often sorted by class.

    Args:
        source: to choose from.
        count: how many.
        seed: of the choice.
        shuffle: keep the order of the draw, in which every beginning is a fair choice too, not the source's.
    """
    if not shuffle and (count is None or count >= len(source)):
        return source
    count = len(source) if count is None else min(count, len(source))
    drawn = sample_indices(seed, 0, count, len(source)).tolist()
    return SelectedImages(source, drawn if shuffle else sorted(drawn))


def images_named(source: ImageSource, keys: Sequence[str], where: str) -> ImageSource:
    """The samples with these names, in this order.

    Args:
        source: to choose from.
        keys: names, each once.
        where: the list came from, for messages.

    Raises:
        ValueError: a name is missing from the source, or stands twice.
    """
    position = {key: i for i, key in enumerate(source.keys)}
    missing = [key for key in keys if key not in position]
    if missing:
        raise ValueError(
            f"{where} names {len(missing)} of {len(keys)} images that '{source.name}' does not hold, such as "
            f"{missing[0]!r}; it holds names such as {source.keys[0]!r}"
        )
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice or not keys:
        raise ValueError(f"{where} names {twice[0]!r} twice; leave one out" if twice else f"{where} names no image")
    return SelectedImages(source, [position[key] for key in keys])


def check_label(label: int, classes: int, where: str) -> None:
    """Refuse a label that no class has; -1 means none.

    Raises:
        ValueError: naming ``where`` and the allowed range.
    """
    if label < -1 or (classes and label >= classes):
        raise ValueError(f"{where} has label {label}; {classes} classes allow -1..{classes - 1}")
