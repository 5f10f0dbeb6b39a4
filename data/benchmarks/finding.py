"""Where the pictures of an entry are found: shards, or whatever layout its makers chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.addresses import is_address
from data.benchmarks.entry import Entry
from data.benchmarks.texts import digest, identities
from data.catalog import CLASS_FILE, TEMPLATE_FILE, locate, read_classes, read_templates
from data.decoding import label_of, members_of
from data.framing import Framing
from data.home import at_home
from data.images import ShardImages
from data.layouts.listing import ListedImages, Listing
from data.layouts.reading import read_layout
from data.progress import track
from data.shard_index import IndexedShards
from data.source import ImageSource, SelectedImages
from data.transforms import DecodeError

REFERENCE_SIZE = 224  # of the models whose shorter side the entries say
SHARDS = "clip_benchmark"


@dataclass(frozen=True, eq=False)
class Found:
    """What a place holds.

    Attributes:
        source: the pictures.
        names: of the classes, that lie with them; empty where none would do.
        templates: that lie with them; may be empty.
        layout: in words.
        foreign: the names are not those that clip_benchmark's layout of the same data set has.
    """

    source: ImageSource
    names: list[str]
    templates: list[str]
    layout: str
    foreign: bool = False


def framing_of(entry: Entry, image_size: int) -> Framing:
    """How the pictures of an entry become those that a model of ``image_size`` is attacked on."""
    if entry.space == "native":
        return Framing()
    resize = entry.resize and round(entry.resize * image_size / REFERENCE_SIZE)
    return Framing(image_size, resize, entry.interpolation)


def find(entry: Entry, where: str, framing: Framing) -> Found:
    """The pictures of an entry, with the class names and templates that lie beside them.

    Args:
        entry: of the catalog.
        where: folder or shards.
        framing: of the pictures.

    Raises:
        ValueError: nothing there, or not as the entry's data set is laid out.
    """
    root = at_home(where)
    if SHARDS in dict(entry.layouts) and _is_shards(where, root, _shard_split(entry)):
        return _in_shards(entry, where, framing)
    if not root.is_dir():
        raise ValueError(f"no folder '{where}'; {entry.id} needs {entry.needs}")
    listing = read_layout(root, entry.split, [item for item in entry.layouts if item[0] != SHARDS])
    if listing is None:
        raise ValueError(f"'{where}' is not laid out as {entry.id} is: it needs {entry.needs}")
    if entry.folders and digest(listing.classes) != entry.folders:
        raise ValueError(
            f"the {len(listing.classes)} class folders of '{where}' are not the {entry.classes} of {entry.id}, such as "
            f"'{listing.classes[0]}'; labels would be wrong: it needs {entry.needs}"
        )
    listing = _without(entry, listing)
    names, templates = listing.classes, []
    foreign = SHARDS in dict(entry.layouts)
    if (own := root / CLASS_FILE).is_file():
        names, foreign = read_classes(own, ties=entry.ties), False
    elif entry.names.origin == "user":
        names = []
    if (own := root / TEMPLATE_FILE).is_file():
        templates = read_templates(own)
    source = ListedImages(listing, framing, name=entry.dataset)
    return Found(source, list(names), templates, listing.layout, foreign)


def _in_shards(entry: Entry, where: str, framing: Framing) -> Found:
    if entry.drop:
        raise ValueError(f"{entry.id} leaves out {', '.join(entry.drop)}, which shards do not name; give class folders")
    found = locate(where, _shard_split(entry), ties=entry.ties)
    own_templates = bool(found.templates) and _has_templates(found.urls[0])
    source = ShardImages(
        IndexedShards(found.urls),
        framing,
        identities(found.classes),
        name=entry.dataset,
    )
    return Found(source, found.classes, found.templates if own_templates else [], "shards")


def _has_templates(url: str) -> bool:
    near = Path(url).parent
    return is_address(url) or any((place / TEMPLATE_FILE).is_file() for place in (near, near.parent))


def _shard_split(entry: Entry) -> str:
    return "test" if entry.split == "val" else entry.split


def _is_shards(where: str, root: Path, split: str) -> bool:
    if is_address(where) or "{" in where or where.endswith(".tar"):
        return True
    return any((folder / "nshards.txt").is_file() or any(folder.glob("*.tar")) for folder in (root, root / split))


def _without(entry: Entry, listing: Listing) -> Listing:
    """The listing without the classes that the entry leaves out."""
    missing = [name for name in entry.drop if name not in listing.classes]
    if missing:
        raise ValueError(f"{entry.id} leaves out class {missing[0]!r}, which the data does not have")
    if not entry.drop:
        return listing
    kept = [i for i, name in enumerate(listing.classes) if name not in entry.drop]
    number = {old: new for new, old in enumerate(kept)}
    chosen = [i for i, label in enumerate(listing.labels) if label in number]
    return Listing(
        [listing.keys[i] for i in chosen],
        [number[listing.labels[i]] for i in chosen],
        [listing.classes[i] for i in kept],
        lambda index: listing.picture(chosen[index]),
        listing.layout,
    )


def labels_of(source: ImageSource) -> Sequence[int]:
    """The label of every image, without decoding a picture."""
    if isinstance(source, ListedImages):
        return source.labels
    if isinstance(source, SelectedImages):
        labels = labels_of(source.source)
        return [labels[int(i)] for i in source.indices]
    assert isinstance(source, ShardImages)
    shards = source.shards
    found: list[int] = []
    for i in track(range(len(source)), "read the labels", len(source)):
        try:
            label = members_of(shards.extensions(i)).label
            found.append(-1 if label is None else label_of(shards.read(i, only=(label,))[label], 0))
        except DecodeError:  # whoever reads the sample says so
            found.append(-1)
    return found
