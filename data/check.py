"""Every sample of some shards is decoded once, and what is wrong is counted by reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from data.addresses import is_address, shown
from data.catalog import Location, locate, open_images, open_shards
from data.folder_images import holds_images
from data.images import ShardImages
from data.index_file import index_tar
from data.index_store import places_of, read_index
from data.progress import track
from data.shard_cache import ShardCache
from data.shard_index import IndexedShards
from data.source import ImageSource, prompts_fault
from data.tars import ShardError
from data.transforms import DecodeError

_NAMED = 5  # examples kept for each reason


@dataclass
class ShardCheck:
    """What a look at every sample found.

    Attributes:
        shards: how many were looked at.
        samples: in their indexes.
        good: of them.
        labeled: samples with a label.
        evaluation: whether ``robustclip evaluate`` takes the set: ``yes``, or ``no: `` and why.
        bad: samples that give no picture, label or caption, by reason.
        rejected: members that no sample takes in, by reason.
        faults: of whole shards, by reason: damaged, unreadable, an index that lies, not as ``index.json`` says.
        examples: the first few of each reason, by shard and key.
    """

    shards: int = 0
    samples: int = 0
    good: int = 0
    labeled: int = 0
    evaluation: str = "no: see the faults"
    bad: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing at all is wrong."""
        return not (self.bad or self.rejected or self.faults)

    def note(self, kind: Counter[str], reason: str, where: str, count: int = 1) -> None:
        """Count a reason, and keep where it was seen."""
        kind[reason] += count
        self._remember(reason, [where])

    def add(self, other: ShardCheck) -> None:
        """Take in what was found elsewhere."""
        for name in ("shards", "samples", "good", "labeled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("bad", "rejected", "faults"):
            getattr(self, name).update(getattr(other, name))
        for reason, where in other.examples.items():
            self._remember(reason, where)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        counted = {name: dict(sorted(getattr(self, name).items())) for name in ("bad", "rejected", "faults")}
        numbers = {name: getattr(self, name) for name in ("shards", "samples", "good", "labeled")}
        return {"sound": self.sound, "evaluate": self.evaluation, **numbers, **counted, "examples": self.examples}

    def _remember(self, reason: str, where: list[str]) -> None:
        seen = self.examples.setdefault(reason, [])
        seen += where[: _NAMED - len(seen)]


def check_shards(shards: str, split: str, *, workers: int = 0, cache: ShardCache | None = None) -> ShardCheck:
    """What is wrong with some shards, found by reading all headers, all checksums and every sample.

    They are opened as ``evaluate`` and ``finetune`` open them, so that what these refuse is not called sound.  A folder
    of images is checked too.

    Args:
        shards, split: as in ``data.catalog.open_images``.
        workers: processes that decode; 0 decodes in this one.
        cache: for shards elsewhere.

    Raises:
        ValueError: no such shards.
    """
    whole = ShardCheck()
    if holds_images(shards, split):
        source = open_images(shards, split, None)
        _check_samples(source, whole)
    else:
        found = locate(shards, split, cache)
        each = _Checks(found.urls, found.classes, cache)
        loader = DataLoader(each, batch_size=None, shuffle=False, num_workers=min(workers, len(each)))
        for part in track(loader, "check the shards", len(each)):
            whole.add(part)
        source = _together(found, cache, whole)
    if source is not None:
        _check_classes(source, whole, shards)
    return whole


def _together(found: Location, cache: ShardCache | None, check: ShardCheck) -> ImageSource | None:
    """All shards opened as an evaluation opens them, where each of them can be read."""
    if check.faults:
        return None
    try:
        return open_shards(found, None, cache)
    except ValueError as error:
        check.note(check.faults, "shards that do not fit together", str(error))
        return None


def _check_classes(source: ImageSource, check: ShardCheck, shards: str) -> None:
    """Compare class names and labels as an evaluation does."""
    fault = prompts_fault(source, source.classes, source.templates)
    check.evaluation = f"no: it {fault}" if fault else "yes" if check.sound else "no: see the faults"
    if fault and (check.labeled or source.classes):
        check.note(check.faults, "classes", f"{shards} {fault}")


class _Checks(Dataset[ShardCheck]):
    """The check of each shard, by number."""

    def __init__(self, urls: Sequence[str], classes: Sequence[str], cache: ShardCache | None) -> None:
        self.urls, self.classes, self.cache = list(urls), list(classes), cache

    def __len__(self) -> int:
        return len(self.urls)

    def __getitem__(self, number: int) -> ShardCheck:
        url, check = self.urls[number], ShardCheck(shards=1)
        if not is_address(url):
            _check_index(Path(url), check)
        logger = logging.getLogger("data")
        level = logger.level
        logger.setLevel(logging.ERROR)  # what is wrong is counted here
        try:
            index = IndexedShards([url], skip_bad=True, checksum=True, cache=self.cache)
        except ValueError as error:
            check.note(check.faults, "unreadable shard", str(error))
            return check
        finally:
            logger.setLevel(level)
        for reason, count in index.rejected.items():
            whole = reason in ("damaged shard", "not as its index.json says")
            check.note(check.faults if whole else check.rejected, reason, shown(url), count)
        _check_samples(ShardImages(index, None, self.classes), check)
        return check


def _check_index(path: Path, check: ShardCheck) -> None:
    """Compare the kept index, should there be one, with the tar itself."""
    kept = next((index for file in places_of(path) if (index := read_index(file)) is not None), None)
    try:
        if kept is not None and not kept.has_members_of(index_tar(path)):
            check.note(check.faults, "index of another tar (made again)", str(path))
    except ShardError:
        return


def _check_samples(source: ImageSource, check: ShardCheck) -> None:
    check.samples = len(source)
    for i in range(len(source)):
        try:
            label = source[i].y
        except DecodeError as error:
            check.note(check.bad, error.reason, _where(source, i))
            continue
        check.labeled += label >= 0
        if label < 0 and source.classes:  # an evaluation refuses it
            check.note(check.bad, "no label", _where(source, i))
        else:
            check.good += 1


def _where(source: ImageSource, i: int) -> str:
    if not isinstance(source, ShardImages):
        return source.keys[i]
    return f"{source.shards.where(i)} ({', '.join(source.shards.extensions(i))})"
