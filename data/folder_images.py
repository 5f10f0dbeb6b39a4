"""A user's own folder of images: one folder per class, with or without splits above them, or images without classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from data.class_texts import CLASS_FILE, DEFAULT_TEMPLATES, TEMPLATE_FILE, class_name, read_classes, read_templates
from data.framing import Framing
from data.home import at_home
from data.layouts.listing import FilePictures, ListedImages, Listing
from data.progress import track
from data.source import check_classes
from data.tars import is_hidden
from data.transforms import IMAGE_EXTENSIONS, MAX_PIXELS

log = logging.getLogger(__name__)

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "tune", "test", "testing", "eval"})
_LOOKED_AT = 10_000  # files in which an image is looked for


@dataclass(frozen=True, eq=False)
class FolderPictures:
    """Images in the files of one folder, decoded when asked for."""

    folder: str
    names: Sequence[str]
    max_pixels: int = MAX_PIXELS

    def __call__(self, index: int) -> Image.Image:
        """Return the image of a file.

        Raises:
            DecodeError: it cannot be read or decoded.
        """
        return FilePictures([Path(self.folder, self.names[index])], self.max_pixels)(0)


def holds_images(place: str, split: str) -> bool:
    """Whether this names a folder of image files and no shards."""
    root = at_home(place)
    if place == "digits" or not root.is_dir() or has_shards(root, split):
        return False
    for number, (name, _) in enumerate(visible_files(str(_split_folder(root, split)))):
        if is_image_name(name):
            return True
        if number >= _LOOKED_AT:
            break
    return False


def has_shards(root: Path, split: str) -> bool:
    """Whether a folder holds shards, of this split or another one."""
    tars = any(any(folder.glob("*.tar")) for folder in (root, root / split))
    return tars or (root / "nshards.txt").is_file() or any(root.glob("*/nshards.txt"))


def is_image_name(name: str) -> bool:
    """Whether a file of this name is an image."""
    return name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def open_folder(
    place: str, split: str, framing: Framing, *, skip_bad: bool = False, max_pixels: int = MAX_PIXELS
) -> ListedImages:
    """Return the images of a folder, as ``list_folder`` lists them.

    Args:
        place, split: as in ``list_folder``.
        framing: how an image becomes a square.
        skip_bad: see ``DecodedImages``.
        max_pixels: see ``decode_image``.

    Raises:
        ValueError: as ``list_folder``.
    """
    root = at_home(place)
    listing = list_folder(root, split, max_pixels=max_pixels)
    texts = next((path for folder in (root, root.parent) if (path := folder / TEMPLATE_FILE).is_file()), None)
    templates = read_templates(texts) if texts else list(DEFAULT_TEMPLATES)
    return ListedImages(listing, framing, name=root.resolve().name, templates=templates, skip_bad=skip_bad)


def list_folder(root: Path, split: str, *, max_pixels: int = MAX_PIXELS) -> Listing:
    """Return the images of ``root/<split>/<class>/…``, ``root/<class>/…``, or of a folder that has no class folders.

    Like torchvision's ``ImageFolder``: the class folders in the order of their names are the labels, folders within
    them belong to their class, links are followed.  A ``classnames.txt`` in the root names the classes instead: in its
    own order where it lists the folders, otherwise in the order of the folders.  Hidden files are skipped; files of
    other kinds are too, and counted in a warning.

    Args:
        root: the folder.
        split: folder in it, where there is one; otherwise the root is taken as it is.
        max_pixels: see ``decode_image``.

    Raises:
        ValueError: no image, an empty class folder, images beside class folders, a split that is not there, class
            names that do not fit the folders, or a name that is not UTF-8.
    """
    folder = _split_folder(root, split)
    subfolders = sorted(entry.name for entry in _visible(str(folder)) if entry.is_dir())
    if folder == root and (others := splits_among(subfolders)):
        raise ValueError(f"no split '{split}' in '{root}'; it holds: {', '.join(others)}")
    for name in subfolders:
        if inner := splits_among([entry.name for entry in _visible(str(folder / name)) if entry.is_dir()]):
            held = f"'{name}' in it holds splits ({', '.join(inner)})"
            raise ValueError(f"'{folder}' holds no class folders: {held}; name '{folder / name}'")
    found = {name: sorted(_images(folder, name)) for name in track(subfolders, f"list {folder.name}", len(subfolders))}
    loose = [entry.name for entry in _visible(str(folder)) if not entry.is_dir()]
    flat = sorted(name for name in loose if is_image_name(name))
    _warn_of_others(folder, [name for name in loose if not is_image_name(name)])
    if not any(found.values()):
        if not flat:
            raise ValueError(f"'{folder}' holds no image; name a folder with <class>/<image>, or shards")
        return Listing(flat, [-1] * len(flat), [], FolderPictures(str(folder), flat, max_pixels), "images, no classes")
    if flat:
        raise ValueError(
            f"'{folder}' holds {len(flat)} images, such as '{flat[0]}', beside the class folder '{subfolders[0]}'; "
            "move the images into a class folder, or the folders away"
        )
    empty = next((name for name, names in found.items() if not names), None)
    if empty is not None:
        raise ValueError(f"class folder '{folder / empty}' holds no image; fill or remove it")
    labels_of, classes = _classes(root, folder, subfolders)
    keys = [key for name in subfolders for key in found[name]]
    labels = [labels_of[name] for name in subfolders for _ in found[name]]
    return Listing(keys, labels, classes, FolderPictures(str(folder), keys, max_pixels), "class folders")


def _split_folder(root: Path, split: str) -> Path:
    return root / split if (root / split).is_dir() else root


def _classes(root: Path, folder: Path, subfolders: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The label of every class folder, and the names of the classes in the order of the labels."""
    names = [class_name(name) for name in subfolders]
    check_classes(names, f"the class folders of '{folder}'")
    listed = next((path for place in (root, folder) if (path := place / CLASS_FILE).is_file()), None)
    if listed is None:
        return {name: label for label, name in enumerate(subfolders)}, names
    classes = read_classes(listed)
    if set(classes) == set(names):
        return {name: classes.index(class_name(name)) for name in subfolders}, classes
    if len(classes) != len(names) or set(classes) & set(names):
        unknown = next((name for name in names if name not in classes), names[-1])
        raise ValueError(
            f"'{listed}' names {len(classes)} classes and '{folder}' has {len(names)} class folders, of which "
            f"'{unknown}' is not listed; correct or remove the list"
        )
    return {name: label for label, name in enumerate(subfolders)}, classes


def _images(folder: Path, name: str) -> Iterator[str]:
    """The images below a class folder, by their paths within ``folder``."""
    others = []
    for path, inner in visible_files(str(folder / name)):
        if not is_image_name(path):
            others.append(f"{name}/{inner}")
            continue
        try:
            f"{name}/{inner}".encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the name of {ascii(f'{folder}/{name}/{inner}')} is not UTF-8; rename it") from error
        yield f"{name}/{inner}"
    _warn_of_others(folder, others)


def _warn_of_others(folder: Path, names: Sequence[str]) -> None:
    others = [name for name in names if name.rpartition("/")[2] not in (CLASS_FILE, TEMPLATE_FILE)]
    if others:
        log.warning("skipped %d file(s) of '%s' without an image's ending, such as %s", len(others), folder, others[0])


def splits_among(names: Sequence[str]) -> list[str]:
    """Return the names that are those of splits: as class folders they would become classes."""
    return sorted(name for name in names if name.lower() in _SPLITS)


def visible_files(folder: str, within: str = "", above: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Name, and path within the folder, of all visible files below it; a link that leads back up is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in sorted(_visible(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from visible_files(entry.path, f"{within}{entry.name}/", (*above, real))
        else:
            yield entry.name, within + entry.name


def _visible(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not is_hidden(entry.name)]
