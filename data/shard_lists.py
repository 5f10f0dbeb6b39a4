"""Lists of shards, and folders of shards elsewhere: what small text files name, none of it trusted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from data.addresses import check_address, check_next, file_name, is_address, shown, sibling
from data.faults import refuse_faults
from data.home import at_home
from data.remote import small_file
from data.shard_cache import ShardCache
from data.text_files import read_lines

COUNT_FILE = "nshards.txt"
_MOST = 1_000_000  # shards of a folder or a list
_REMEDY = "name paths beside the list, or http, https, s3 and gs addresses"


def is_list(place: str) -> bool:
    """Whether this path or address names a list of shards, one a line: a text file."""
    return file_name(place).lower().endswith(".txt") and file_name(place) != COUNT_FILE and "{" not in place


def shards_of_list(place: str, cache: ShardCache) -> list[str]:
    """The shards that a list names, in its order; empty lines and what begins with # are no shards.

    A name without a scheme lies beside the list.  Whoever wrote the list, it reaches no command, no ``file:`` address,
    no folder above its own and no host that tells secrets; a list on this machine may name absolute paths.

    Raises:
        ValueError: no such list, none or too many in it, one twice, one that is refused, or a file that is missing.
    """
    if is_address(place):
        check_address(place)
        file = small_file(cache, place)
        if file is None:
            raise ValueError(f"no list '{shown(place)}' that can be read; check the address")
    else:
        file = at_home(place)
        if not file.is_file():
            raise ValueError(f"no list '{place}'; check the path")
    faults, found = [], []
    for number, name in read_lines(file, name=shown(place)):
        if not name.startswith("#"):
            try:
                found.append(_entry(name, place))
            except ValueError as error:
                faults.append(f"line {number}: {error}")
    twice = [name for name, count in Counter(found).items() if count > 1]
    faults += [f"'{shown(name)}' stands there twice" for name in twice]
    refuse_faults(faults, shown(place), _REMEDY)
    if not 0 < len(found) <= _MOST:
        raise ValueError(f"the list '{shown(place)}' names {len(found)} shards; it needs 1 to {_MOST}, one a line")
    return found


def _entry(name: str, place: str) -> str:
    if is_address(name):
        if name.lower().startswith("file:"):
            raise ValueError("file: addresses are not followed from a list")
        check_address(name)
        if is_address(place):
            check_next(name, place)
        return name
    if not name.isprintable() or ".." in Path(name).parts or "\\" in name:
        raise ValueError(f"{name[:60]!r} leaves the list's folder or is no name")
    if is_address(place):
        if name.startswith("/"):
            raise ValueError(f"'{name[:60]}' is a path of another machine")
        return sibling(place, name)
    path = at_home(place).parent / Path(name)
    if not path.is_file():
        raise ValueError(f"no file '{path}'")
    return str(path)


def shards_of_folder(url: str, split: str, cache: ShardCache) -> list[str]:
    """The tars of a clip_benchmark folder elsewhere: ``<url>/<split>/nshards.txt`` counts ``0.tar``, ``1.tar``, ...

    Args:
        url: of the folder of the splits, of one split, or of its ``nshards.txt``.
        split: the one that is wanted.
        cache: keeps the count.

    Raises:
        ValueError: no such file there, or it holds no number.
    """
    check_address(url)
    place = url if file_name(url) == COUNT_FILE else _below(url, split, COUNT_FILE)
    file = small_file(cache, place)
    if file is None and file_name(url.split("?")[0].rstrip("/")) == split:
        place = _below(url, COUNT_FILE)
        file = small_file(cache, place)
    if file is None:
        needed = f"a folder of shards holds {split}/{COUNT_FILE} and {split}/0.tar, 1.tar, ..."
        raise ValueError(f"no '{shown(place)}'; {needed}; or name tars like '.../x-{{0..9}}.tar'")
    return [sibling(place, f"{number}.tar") for number in range(shard_count(file, name=shown(place)))]


def shard_count(file: Path, *, name: str | None = None) -> int:
    """Return the number of shards that an ``nshards.txt`` says.

    Args:
        file: to read.
        name: for messages, where ``file`` is a copy.

    Raises:
        ValueError: it holds no number, or an impossible one.
    """
    text = " ".join(line for _, line in read_lines(file, name=name))
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 0 < int(text) <= _MOST):
        raise ValueError(f"'{name or file}' says {text[:20]!r} where the number of shards belongs")
    return int(text)


def names_tars(url: str) -> bool:
    """Whether an address names tars, one or by braces, and no folder of them."""
    return "{" in url or file_name(url).lower().endswith(".tar")


def _below(url: str, *names: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *names])))
