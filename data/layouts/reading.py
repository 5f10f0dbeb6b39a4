"""Every layout by its name, and the one that a folder has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data.layouts import arrays, folders, lists, matlab
from data.layouts.hub import parquet_images
from data.layouts.listing import Listing

LAYOUTS: dict[str, Callable[..., Listing | None]] = {
    "class_folders": folders.class_folders,
    "sun397": folders.sun397,
    "dtd": lists.dtd,
    "pets": lists.pets,
    "aircraft": lists.aircraft,
    "food101": lists.food101,
    "flowers102": matlab.flowers102,
    "cars": matlab.cars,
    "cifar10_binary": arrays.cifar10_binary,
    "cifar10_python": arrays.cifar10_python,
    "cifar100_binary": arrays.cifar100_binary,
    "cifar100_python": arrays.cifar100_python,
    "stl10": arrays.stl10,
    "mnist": arrays.mnist,
    "pcam": arrays.pcam,
    "parquet": parquet_images,
}
"""(root, split) -> the pictures, or None where the root has another layout."""


def read_layout(root: Path, split: str, layouts: Sequence[tuple[str, Mapping[str, object]]]) -> Listing | None:
    """The pictures of the first layout that fits; None where none does.

    Args:
        root: folder.
        split: to read.
        layouts: names of layouts with their settings, in the order in which they are tried.

    Raises:
        ValueError: the layout fits, and what it holds is faulty.
    """
    for name, settings in layouts:
        if (found := LAYOUTS[name](root, split, **settings)) is not None:
            return found
    return None
