"""What the catalog knows of a data set as one protocol uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from data.transforms import Interpolation

Space = Literal["native", "model"]


@dataclass(frozen=True)
class Texts:
    """Where class names or templates come from.

    Attributes:
        origin: ``dataset`` (its own files), ``file`` (shipped with the catalog), ``package`` (an installed package),
            ``listed`` (the entry itself) or ``user`` (nobody may ship them, and the data has none that would do).
        name: of the file, or of the package's list.
        sha256: of the list, one line each; empty where it is not fixed.
        lines: the list, where the entry itself has it.
        count: how many there must be; None where it is not known.
    """

    origin: Literal["dataset", "file", "package", "listed", "user"] = "dataset"
    name: str = ""
    sha256: str = ""
    lines: tuple[str, ...] = ()
    count: int | None = None


@dataclass(frozen=True)
class Entry:
    """A data set as one protocol uses it.

    Attributes:
        id: ``protocol/dataset``, such as ``fare/cifar10``.
        title: for people.
        kind: of the task: ``classification``, ``2afc``, ``odd_one_out`` or ``retrieval``.
        aliases: other names, such as ``wds/vtab/cifar10``.
        place: in the protocol's order, from 1.
        split: that is judged, in the words of ``counts``.
        counts: expected samples by split.
        classes: expected classes; None where there are none.
        names, templates: where class names and templates come from.
        rename: rules that class names go through (``data.benchmarks.renaming``).
        drop: classes that are left out, by the data's own names.
        ties: classes may share a prompt; otherwise that is refused.
        native: the pictures' own side in pixels; None where they differ.
        space: where a perturbation lives: at the ``native`` size, resized inside the model, or at the ``model``'s.
        resize: length of the shorter side before the crop, for a model of 224 pixels; None means the crop's.
        interpolation: filter of that resize.
        antialias: of the resize inside the model (``modules.encoders.resized``).
        ids: images of the list that the user has to give; None where all of the split is judged.
        folders: sha256 of the class folders' names, which fixes the order of the labels; empty where it is not fixed.
        layouts: names of ``data.layouts`` with their settings; ``clip_benchmark`` is the first where it is known.
        needs: what to ask for, and what it has to look like.
        stands_in: what differs from the protocol for want of knowledge; every row says it.
        notes: traps.
    """

    id: str
    title: str
    kind: str = "classification"
    aliases: tuple[str, ...] = ()
    place: int = 0
    split: str = "test"
    counts: Mapping[str, int] = field(default_factory=dict)
    classes: int | None = None
    names: Texts = Texts()
    templates: Texts = Texts()
    rename: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    ties: bool = False
    native: int | None = None
    space: Space = "model"
    resize: int | None = None
    interpolation: Interpolation = "bicubic"
    antialias: bool = True
    ids: int | None = None
    folders: str = ""
    layouts: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    needs: str = ""
    stands_in: str = ""
    notes: tuple[str, ...] = ()

    @property
    def protocol(self) -> str:
        """Whose use of the data set this is."""
        return self.id.partition("/")[0]

    @property
    def dataset(self) -> str:
        """The data set's own name."""
        return self.id.partition("/")[2]

    @property
    def count(self) -> int | None:
        """Expected samples of the split that is judged."""
        return self.counts.get(self.split)

    @property
    def tasks(self) -> bool:
        """Whether it is opened as pictures with labels."""
        return self.kind == "classification"
