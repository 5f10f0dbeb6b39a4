"""A data set of the catalog, opened: counted, named, and refused in one line where it is not what it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data.benchmarks.entry import Entry, Texts
from data.benchmarks.finding import find, framing_of, labels_of
from data.benchmarks.renaming import renamed
from data.benchmarks.texts import Published, digest, prompts_hash, resolve, tied
from data.source import ImageSource


@dataclass
class Benchmark:
    """A data set of the catalog, opened.

    Attributes:
        entry: what the catalog knows of it.
        source: the pictures; their classes are told apart even where prompts are not.
        names: what templates are filled with, by class.
        templates: prompts with ``{}``.
        resolution: side in pixels of what is attacked.
        layout: in which it was found.
        qualifiers: what every row must be read with.
        notes: what a report should say.
    """

    entry: Entry
    source: ImageSource
    names: list[str]
    templates: list[str]
    resolution: int
    layout: str
    qualifiers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def native(self) -> bool:
        """Whether perturbations live at the pictures' own size, which is resized inside the model."""
        return self.entry.space == "native"

    @property
    def prompts(self) -> str:
        """12 hexadecimal digits that name class names and templates."""
        return prompts_hash(self.names, self.templates)

    def record(self) -> dict[str, Any]:
        """What a result keeps of it."""
        return {
            "dataset": self.entry.id,
            "split": self.entry.split,
            "count": len(self.source),
            "expected": self.entry.count,
            "classes": len(self.names),
            "layout": self.layout,
            "resolution": self.resolution,
            "space": self.entry.space,
            "resize": self.entry.resize,
            "interpolation": self.entry.interpolation,
            "antialias": self.entry.antialias,
            "names_from": self.entry.names.origin,
            "names_sha256": digest(self.names),
            "templates_from": self.entry.templates.origin,
            "templates_sha256": digest(self.templates),
            "prompts": self.prompts,
            "qualifiers": self.qualifiers,
            "notes": self.notes,
        }


def open_benchmark(
    entry: Entry,
    where: str,
    *,
    image_size: int,
    split: str | None = None,
    published: Published | None = None,
    templates: Sequence[str] | None = None,
    allow_mismatch: bool = False,
) -> Benchmark:
    """The data set of an entry, with its images and classes counted.

    Args:
        entry: of the catalog.
        where: a folder that it was unpacked to, or its shards.
        image_size: side that the model takes, for entries whose space is the model's.
        split: another split than the entry's, for tuning.
        published: lists of installed packages.
        templates: instead of the entry's; every row says so.
        allow_mismatch: take other counts too; every row says so.

    Raises:
        ValueError: nothing there, or not what the entry expects.
    """
    if not entry.tasks:
        raise ValueError(f"{entry.id} ({entry.title}) is no set of pictures with labels; its task is {entry.kind}")
    entry = replace(entry, split=split) if split else entry
    found = find(entry, where, framing_of(entry, image_size))
    names = renamed(resolve(entry.names, entry, "class names", found.names, published, where), entry.rename)
    asked = entry.templates if templates is None else Texts("listed", lines=tuple(templates))
    filled = resolve(asked, entry, "templates", found.templates, published, where)
    opened = Benchmark(entry, found.source, names, filled, image_size, found.layout)
    opened.qualifiers += counted(entry, where, len(found.source), len(names), allow_mismatch)
    opened.qualifiers += filter(None, [entry.stands_in])
    if entry.names.origin == "dataset" and found.foreign:
        opened.qualifiers.append(f"class names of {found.layout}, not those of clip_benchmark's file")
    if templates is not None:
        opened.qualifiers.append(f"templates of the recipe, not those of {entry.id}")
    _check_ties(opened)
    _check_size(opened, where)
    return opened


def counted(entry: Entry, where: str, images: int, classes: int | None, allow: bool) -> list[str]:
    """What rows must say of counts that are not the entry's; empty where they are.

    Raises:
        ValueError: other counts, and none are allowed.
    """
    told = []
    for what, found, expected in (("images", images, entry.count), ("classes", classes, entry.classes)):
        if found is not None and expected is not None and found != expected:
            told.append(f"{found:,} {what} of split {entry.split} where {entry.id} has {expected:,}")
    if told and not allow:
        raise ValueError(
            f"'{where}' holds {' and '.join(told)}; fetch it again, or allow it with allow_count_mismatch=true, and "
            "every row will say so"
        )
    return told


def _check_size(opened: Benchmark, where: str) -> None:
    entry, x = opened.entry, opened.source[0].x
    opened.resolution = x.shape[-1]
    if opened.native and tuple(x.shape[-2:]) != (entry.native, entry.native):
        raise ValueError(
            f"{entry.id} is attacked at its own {entry.native} x {entry.native} pixels, and '{where}' holds pictures "
            f"of {x.shape[-1]} x {x.shape[-2]}; fetch the original"
        )


def _check_ties(opened: Benchmark) -> None:
    groups = tied(opened.names)
    if not groups:
        return
    entry = opened.entry
    told = "; ".join(f"{name!r} for classes {', '.join(map(str, group))}" for name, group in groups.items())
    if not entry.ties:
        raise ValueError(f"classes of {entry.id} share a prompt: {told}; give each class its own name")
    counts = Counter(label for label in labels_of(opened.source) if any(label in group for group in groups.values()))
    later = sum(counts[label] for group in groups.values() for label in group[1:])
    share = 100 / max(len(opened.source), 1)
    opened.notes.append(
        f"Prompts are the same: {told}. {counts.total():,} images ({share * counts.total():.1f} %) are of these "
        f"classes, so a tie decides what is right; {later:,} ({share * later:.1f} %) are of a class that comes second."
    )
