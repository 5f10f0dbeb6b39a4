"""Folders of class folders: ImageNet, Country211, EuroSAT, Caltech, Tiny-ImageNet and whatever looks like them."""

from __future__ import annotations

from pathlib import Path

from data.layouts.listing import FilePictures, Listing, place
from data.progress import track
from data.transforms import IMAGE_EXTENSIONS


def class_folders(root: Path, split: str, *, at: str = "{split}", leave_out: tuple[str, ...] = ()) -> Listing | None:
    """The pictures of ``root/<at>/<class>/<picture>``; classes and pictures in the order of their names.

    Args:
        root: folder that was unpacked.
        split: fills ``{split}`` in ``at``.
        at: where the class folders lie, seen from the root; ``.`` for the root itself.
        leave_out: class folders that are no class.

    Raises:
        ValueError: a class folder without a picture.
    """
    inner = at.replace("{split}", split)
    folder = root if inner == "." else place(root, inner)
    if folder is None or not folder.is_dir():
        return None
    classes = [path for path in _visible(folder) if path.is_dir() and path.name not in leave_out]
    if not classes or not any(_pictures(classes[0])):
        return None
    paths: list[Path] = []
    labels: list[int] = []
    for label, path in enumerate(track(classes, f"list {folder.name}", len(classes))):
        found = _pictures(path)
        if not found:
            raise ValueError(f"class folder '{path}' holds no picture; fill or remove it")
        paths += found
        labels += [label] * len(found)
    keys = [path.relative_to(folder).as_posix() for path in paths]
    return Listing(keys, labels, [path.name for path in classes], FilePictures(paths), f"class folders in {inner}")


def sun397(root: Path, split: str) -> Listing | None:
    """SUN397 as unpacked: ``ClassName.txt`` names the folders, such as ``/a/abbey``; all pictures, sorted by path."""
    from data.layouts.listing import text_lines

    names = place(root, "SUN397/ClassName.txt")
    if split != "all" or names is None:
        return None
    folders = text_lines(names)
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(track(folders, "list SUN397", len(folders))):
        within = names.parent / folder.strip("/")
        found = _pictures(within) if within.is_dir() else []
        if not found or ".." in folder:
            raise ValueError(f"'{names}' names {folder}, which holds no picture; unpack SUN397 again")
        paths += found
        labels += [label] * len(found)
    order = sorted(range(len(paths)), key=lambda i: paths[i].as_posix())
    paths, labels = [paths[i] for i in order], [labels[i] for i in order]
    keys = [path.relative_to(names.parent).as_posix() for path in paths]
    classes = [folder.strip("/").partition("/")[2] or folder.strip("/") for folder in folders]
    return Listing(keys, labels, classes, FilePictures(paths), "SUN397 with ClassName.txt")


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a folder, or one level below it, as Tiny-ImageNet has them in ``images``."""
    entries = _visible(folder)
    found = [path for path in entries if path.suffix[1:].lower() in IMAGE_EXTENSIONS]
    if not found and (inner := folder / "images").is_dir():
        found = [path for path in _visible(inner) if path.suffix[1:].lower() in IMAGE_EXTENSIONS]
    return found
