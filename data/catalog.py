"""From what a recipe says to a source of pictures: the embedded set, a folder, or tars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.addresses import above, file_name, is_address, sibling
from data.class_texts import CLASS_FILE as CLASS_FILE
from data.class_texts import DEFAULT_TEMPLATES as DEFAULT_TEMPLATES
from data.class_texts import TEMPLATE_FILE as TEMPLATE_FILE
from data.class_texts import read_classes as read_classes
from data.class_texts import read_templates as read_templates
from data.folder_images import holds_images, open_folder
from data.framing import Framing
from data.home import at_home
from data.images import ImageSource, ShardImages
from data.reading import Reading
from data.remote import small_file
from data.sample import digits
from data.shard_cache import ShardCache
from data.shard_index import IndexedShards
from data.shard_lists import is_list, names_tars, shards_of_folder, shards_of_list
from data.shards import expand, names_shards
from data.transforms import MAX_PIXELS


@dataclass(frozen=True)
class Location:
    """Where a data set lies: its tars, class names (may be empty) and templates with ``{}``."""

    name: str
    urls: list[str]
    classes: list[str]
    templates: list[str]


def open_images(
    shards: str,
    split: str,
    framing: int | Framing | None,
    *,
    skip_bad: bool = False,
    labeled: bool = False,
    max_pixels: int = MAX_PIXELS,
    reading: Reading | None = None,
) -> ImageSource:
    """The pictures that ``shards`` names.

    Args:
        shards: ``digits`` (the embedded set), a clip_benchmark folder, ``x-{0..9}.tar``, ``x-*.tar``, a list of tars
            ``x.txt``, or any of them but ``*`` elsewhere: ``https://host/x-{0..9}.tar``, s3, gs and file alike; or a
            folder of images (``data.folder_images``).
        split: 'train', 'tune' or 'test'; tars named one by one are taken as they are.
        framing: how a picture becomes a square, or its side in pixels; None keeps the pictures' own sizes.
        skip_bad: count and pass over damaged shards and pictures (training), instead of raising.
        labeled: a sample without a label is bad (training on labels).
        max_pixels: size above which a picture is refused.
        reading: order, cache and allowed damage of a training.

    Raises:
        ValueError: nothing there, or not what it should be.
    """
    if shards == "digits":
        return digits(split, image_size=Framing.of(framing).size)
    reading = reading or Reading()
    if holds_images(shards, split):
        if reading.order == "shards":
            raise ValueError(f"data.order=shards needs shards, and '{shards}' is a folder of images; leave it out")
        source = open_folder(shards, split, Framing.of(framing), skip_bad=skip_bad, max_pixels=max_pixels)
        source.allow(reading.max_bad)
        return source
    cache = reading.shard_cache()
    found = locate(shards, split, cache)
    source = open_shards(found, framing, cache, skip_bad=skip_bad, labeled=labeled, max_pixels=max_pixels)
    source.shuffle = reading.shuffle(source.shards)
    source.allow(reading.max_bad)
    return source


def open_shards(
    found: Location,
    framing: int | Framing | None,
    cache: ShardCache | None,
    *,
    skip_bad: bool = False,
    labeled: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> ShardImages:
    """Return the images of located shards; arguments as in ``open_images``.

    Raises:
        ValueError: a shard is damaged, or several do not fit together.
    """
    return ShardImages(
        IndexedShards(found.urls, skip_bad=skip_bad, cache=cache),
        framing,
        found.classes,
        found.templates,
        name=found.name,
        skip_bad=skip_bad,
        labeled=labeled,
        max_pixels=max_pixels,
    )


def locate(shards: str, split: str, cache: ShardCache | None = None, *, ties: bool = False) -> Location:
    """The tars, class names and templates behind a folder or a brace expression.

    Args:
        shards, split: see ``open_images``.
        cache: for what lies elsewhere; None takes the user's.
        ties: several classes may have one name.

    Raises:
        ValueError: neither; or its text files are faulty.
    """
    if not shards.strip():
        raise ValueError("no shards named; choose digits, a folder, or tars like 'x-*.tar', 'x-{0..9}.tar'")
    cache = cache or ShardCache()
    if is_list(shards):
        urls = shards_of_list(shards, cache)
        return _elsewhere(urls, cache, ties) if is_address(urls[0]) else _here(urls, ties, within_split=False)
    if is_address(shards):
        urls = expand(shards) if names_tars(shards) else shards_of_folder(shards, split, cache)
        return _elsewhere(urls, cache, ties, within_split=not names_tars(shards))
    path = at_home(shards)
    if holds_images(shards, split):
        remedy = f"write shards of it with: robustclip data make {shards} --out DIR"
        raise ValueError(f"'{shards}' is a folder of images and holds no shards; {remedy}")
    if path.is_dir():
        folder = path / split
        if (path / "nshards.txt").is_file():
            if path.name != split:
                raise ValueError(f"'{path}' is one split; name its parent folder, so that '{split}' is read")
            folder = path
        elif not folder.is_dir():
            splits = sorted(p.parent.name for p in path.glob("*/nshards.txt"))
            tars = sorted(path.glob("*.tar"))
            if tars:
                like = f"'{path}/{{{tars[0].stem}..{tars[-1].stem}}}.tar'"
                raise ValueError(f"'{path}' holds {len(tars)} tars and no nshards.txt; name them, such as {like}")
            if not splits:
                raise ValueError(
                    f"'{path}' holds no images and no split '{split}' of shards; name a folder with <class>/<image>, "
                    f"or shards with {split}/nshards.txt, {split}/0.tar, ..."
                )
            raise ValueError(f"no split '{split}' in '{path}'; it holds: {', '.join(splits)}")
        urls = expand(str(folder))
    elif names_shards(shards) or "/" in shards:
        urls = expand(shards)
    else:
        raise ValueError(
            f"unknown images '{shards}'; choose digits, a folder, or tars like 'x-*.tar', 'x-{{0..9}}.tar'"
        )
    return _here(urls, ties, within_split=path.is_dir())


def _here(urls: list[str], ties: bool, *, within_split: bool) -> Location:
    near = Path(urls[0]).parent
    places = (near, near.parent)
    classes = _beside(places, CLASS_FILE)
    templates = _beside(places, TEMPLATE_FILE)
    return Location(
        name=(near.parent if within_split else near).name or "shards",
        urls=urls,
        classes=read_classes(classes, ties=ties) if classes else [],
        templates=read_templates(templates) if templates else list(DEFAULT_TEMPLATES),
    )


def _elsewhere(urls: list[str], cache: ShardCache, ties: bool, *, within_split: bool = False) -> Location:
    beside, over = urls[0], above(urls[0])
    found = {
        name: small_file(cache, sibling(beside, name)) or small_file(cache, sibling(over, name))
        for name in (CLASS_FILE, TEMPLATE_FILE)
    }
    classes, templates = found[CLASS_FILE], found[TEMPLATE_FILE]
    return Location(
        name=file_name((over if within_split else sibling(beside, "")).split("?")[0].rstrip("/")) or "shards",
        urls=urls,
        classes=read_classes(classes, ties=ties) if classes else [],
        templates=read_templates(templates) if templates else list(DEFAULT_TEMPLATES),
    )


def _beside(places: tuple[Path, ...], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)
