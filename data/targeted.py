"""Pictures that bring along what their embeddings shall be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from data.batches import ImageSample
from data.source import ImageSource
from data.targets import Targets


class TargetedImages(ImageSource):
    """Another source's pictures, each with its target.

    Args:
        source: of the pictures.

    Attributes:
        targets: to be set before a picture is asked for.
    """

    targets: Targets

    def __init__(self, source: ImageSource) -> None:
        super().__init__(name=source.name, keys=source.keys, classes=source.classes, templates=source.templates)
        self.source, self.shuffle, self.bad_samples = source, source.shuffle, source.bad_samples

    def __getitem__(self, index: int) -> ImageSample:
        return self._targeted(index, self.source[index])

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """The samples at ``indices``, in that order."""
        samples = self.source.__getitems__(indices)
        samples[:] = map(self._targeted, indices, samples)  # in place: the list may know them as one tensor
        return samples

    def _targeted(self, index: int, sample: ImageSample) -> ImageSample:
        at = index
        while self.keys[at] != sample.key:  # a good picture stands in for bad ones before it
            at = (at + 1) % len(self)
        return replace(sample, target=self.targets[at])

    def fetcher(self) -> Callable[[int], None] | None:
        """As the source."""
        return self.source.fetcher()
