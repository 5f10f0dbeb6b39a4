"""Pictures that all have a caption: their own, or one made from the name of their class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from data.batches import ImageSample
from data.images import ImageSource, ShardImages
from data.sample import caption_of, check_captionable

log = logging.getLogger(__name__)


class CaptionedImages(ImageSource):
    """Another source's pictures with captions made from their labels; see ``data.sample.captions``.

    Raises:
        ValueError: the source has no class names or no templates.
    """

    def __init__(self, source: ImageSource) -> None:
        check_captionable(source)
        super().__init__(name=source.name, keys=source.keys, classes=source.classes, templates=source.templates)
        self.source, self.shuffle, self.bad_samples = source, source.shuffle, source.bad_samples

    def __getitem__(self, index: int) -> ImageSample:
        return self._captioned(self.source[index])

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """The samples at ``indices``, in that order."""
        samples = self.source.__getitems__(indices)
        samples[:] = map(self._captioned, samples)  # in place: the list may know them as one tensor
        return samples

    def fetcher(self) -> Callable[[int], None] | None:
        """As the source."""
        return self.source.fetcher()

    def _captioned(self, sample: ImageSample) -> ImageSample:
        return replace(sample, caption=caption_of(self.source, sample.key, sample.y))


def captioned(source: ImageSource) -> ImageSource:
    """The same pictures, each with a caption.

    Where some samples of tars have captions, each must be a pair: a lone picture or a lone caption is a fault, or with
    the source's ``skip_bad`` passed over and counted.  Where none has a caption, the labels give them.

    Raises:
        ValueError: lone halves, counted; or neither captions nor classes with templates.
    """
    if not isinstance(source, ShardImages):
        return source if source[0].caption is not None else CaptionedImages(source)
    halves = source.halves()
    if len(halves["no caption"]) + len(halves["no picture"]) == len(source):
        if not source.classes:
            members = ", ".join(source.shards.extensions(0))
            raise ValueError(
                f"'{source.name}' holds no pair of a picture and a caption (.txt), and no class names; "
                f"its first sample holds {members}"
            )
        return CaptionedImages(source)
    lone = {reason: found for reason, found in halves.items() if found}
    if not lone:
        return source
    told = ", ".join(
        f"{len(found)} have {reason}, such as {source.shards.where(found[0])}" for reason, found in lone.items()
    )
    message = f"of {len(source)} samples of '{source.name}', {told}"
    if not source.skip_bad:
        raise ValueError(f"{message}; complete them, or leave them out with skip_bad=true")
    for reason, found in lone.items():
        source.pass_over(found, reason)
    log.warning("%s; they are passed over", message)
    return source
