"""Images that are decoded from files when asked for, of which a training may skip the bad ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from torch import Tensor

from data.bad_samples import BadSamples
from data.batches import ImageSample
from data.source import ImageSource
from data.transforms import DecodeError

log = logging.getLogger(__name__)


class DecodedImages(ImageSource):
    """Images in files.  A subclass reads one sample in ``_sample``.

    Args:
        skip_bad: for training: an unusable image is logged once and counted in ``bad()``, and the next good one takes
            its place.  Without it, the first one raises.
        lost, refused: see ``BadSamples``.
    """

    def __init__(
        self,
        *,
        name: str,
        keys: Sequence[str],
        classes: Sequence[str],
        templates: Sequence[str],
        skip_bad: bool = False,
        lost: int = 0,
        refused: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(name=name, keys=keys, classes=classes, templates=templates)
        self.skip_bad = skip_bad
        self.bad_samples = self._bad = BadSamples(len(keys), name, lost=lost, refused=refused)

    def _sample(self, index: int, out: Tensor | None) -> ImageSample:
        """Return the sample, its pixels written into ``out`` where that is given; raise DecodeError if it is bad."""
        raise NotImplementedError

    def pass_over(self, indices: Sequence[int], reason: str) -> None:
        """Count these samples as bad, so that with ``skip_bad`` the next good ones take their places."""
        self._bad.note(indices, reason)

    def allow(self, share: float) -> None:
        """Pass over this share of bad images, and refuse more.

        Raises:
            ValueError: there are more already, lost with damaged shards.
        """
        self._bad.max_share = share
        self._bad.check()

    def __getitem__(self, index: int) -> ImageSample:
        return self._good(index, None)

    def _good(self, index: int, out: Tensor | None) -> ImageSample:
        if not self.skip_bad:
            return self._sample(index, out)
        for step in range(len(self)):
            at = (index + step) % len(self)
            if at in self._bad:
                continue
            try:
                return self._sample(at, out)
            except DecodeError as error:
                log.warning("skipped a sample: %s", error)
                self._bad.note([at], error.reason)
        raise ValueError(f"none of the {len(self)} samples of '{self.name}' can be used: {self.bad()}")
