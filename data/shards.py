"""Plain webdataset tars: which files they are, one pass through them, writing them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from data.addresses import check_address, is_address, shown
from data.home import at_home
from data.manifest import describe, new_folder, write_manifest, write_text
from data.progress import track
from data.shard_index import FORMAT
from data.shard_index import IndexedShards as IndexedShards
from data.shard_lists import shard_count
from data.tars import Member, ShardError, group_members


def expand(shards: str) -> list[str]:
    """Return the paths or addresses that a pattern or a clip_benchmark split folder names.

    A file that is itself called so is that file, whatever its name holds. Braces keep their order; the files that
    ``*``, ``?`` and ``[…]`` match are sorted by name.

    Args:
        shards: ``train-{0000..1023}.tar``, ``train-*.tar``, ``https://host/train-{0000..1023}.tar`` (s3, gs and file
            alike), or a folder with ``nshards.txt``, ``0.tar``, ...

    Raises:
        ValueError: an address that is refused, a missing file, a pattern that matches none, or a missing or wrong
            ``nshards.txt``.
    """
    from braceexpand import braceexpand

    if not shards.strip():
        raise ValueError("no shards named; give a folder or an expression like 'train-{0000..0009}.tar'")
    if not is_address(shards) and at_home(shards).is_dir():
        return _split_folder(at_home(shards))
    if not is_address(shards) and at_home(shards).is_file():
        return [str(at_home(shards))]
    try:
        places = list(braceexpand(shards))
    except ValueError as error:
        raise ValueError(f"cannot expand '{shards}': {error}") from error
    if is_address(shards):
        for url in places:
            check_address(url)
            if "*" in shown(url):
                raise ValueError(f"'{shown(url)}': only files here are found by *; name them as {{0000..1023}}")
    else:
        places = [path for place in places for path in _matches(str(at_home(place)))]
        missing = [path for path in places if not Path(path).is_file()]
        if missing:
            count = f" ({len(missing)} of {len(places)} are missing)" if len(places) > 1 else ""
            raise ValueError(f"no file '{missing[0]}'{count}; check the path in '{shards}'")
    twice = [path for path, count in Counter(places).items() if count > 1]
    if twice:
        raise ValueError(f"'{shards}' names '{twice[0]}' twice")
    return places


def names_shards(place: str) -> bool:
    """Whether a place reads as files of shards, by name or pattern, and not as a bare word or a folder."""
    return bool(Path(place).suffix) or any(sign in place for sign in "{*?[") or at_home(place).is_file()


def _matches(place: str) -> list[str]:
    """The files that a pattern matches, sorted; a place without a pattern, or that exists, is itself.

    Raises:
        ValueError: it matches none.
    """
    path = Path(place)
    if not any(sign in place for sign in "*?[") or path.exists():
        return [place]
    folder = next(parent for parent in path.parents if parent.is_dir())  # its own brackets are no pattern
    found = sorted(p for p in folder.glob(str(path.relative_to(folder))) if not p.name.startswith("."))
    files = [str(p) for p in found if p.is_file()]
    if not files:
        folders = f", only folders such as '{found[0]}'" if found else ""
        raise ValueError(f"no file matches '{place}'{folders}; check the pattern")
    return files


def _split_folder(folder: Path) -> list[str]:
    listing = folder / "nshards.txt"
    if not listing.is_file():
        raise ValueError(f"no '{listing}'; a folder of shards holds nshards.txt (their number), 0.tar, 1.tar, ...")
    count = shard_count(listing)
    paths = [folder / f"{i}.tar" for i in range(count)]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise ValueError(f"no file '{missing}' although '{listing}' counts {count} shards")
    extra = [path for path in folder.glob("*.tar") if path.stem.isdecimal() and int(path.stem) >= len(paths)]
    if extra:
        raise ValueError(f"'{min(extra)}' stands beside '{listing}', which counts {count}; correct the number")
    return [str(path) for path in paths]


def stream(
    urls: Sequence[str],
    rejected: Counter[str] | None = None,
    *,
    opened: Callable[[str], BinaryIO] | None = None,
) -> Iterator[dict[str, Any]]:
    """The samples one after the other, {"__key__": str, extension: bytes}, without an index file.

    They are those of ``IndexedShards``: the headers of a tar are read first, so that the members of a sample may lie
    apart.  Refused members are skipped; they and the faults of damaged shards are counted in ``rejected`` by reason.

    Args:
        urls: of the shards.
        rejected: is counted in; with it, the complete samples of a damaged shard are kept.
        opened: gives the file of a shard, where its address is no path.

    Raises:
        ValueError: a damaged shard, when no ``rejected`` is given.
    """
    counts = Counter() if rejected is None else rejected
    for url in urls:
        try:
            with opened(url) if opened else Path(url).open("rb") as file:
                found = group_members(Path(shown(url)), file=file)
                counts.update(found.rejected)
                if found.fault:
                    if rejected is None:
                        raise ShardError(found.fault)
                    rejected["damaged shard"] += 1
                for key, parts in found.samples.items():
                    yield {"__key__": key, **{ext: _read(file, member, url) for ext, member in parts.items()}}
        except (ShardError, OSError):
            if rejected is None:
                raise
            rejected["damaged shard"] += 1


def _read(file: BinaryIO, member: Member, url: str) -> bytes:
    file.seek(member.offset)
    content = file.read(member.size)
    if len(content) != member.size:
        raise ShardError(f"shard '{shown(url)}' has become shorter while it was read")
    return content


def write_shards(folder: Path, samples: Iterable[Mapping[str, Any]], *, per_shard: int = 1000) -> list[Path]:
    """The tars ``0.tar``, ``1.tar``, ... written with ``nshards.txt`` and ``index.json``.

    The folder appears when all is written, and not at all when a sample or the disk fails.  Equal
    samples give equal bytes.

    Args:
        folder: split folder to make; it must be new or empty.
        samples: each {"__key__": str, extension: bytes or str}.
        per_shard: samples of a shard.

    Raises:
        ValueError: no samples, a key used twice or with a dot in it, or a value that is not bytes.
    """
    if per_shard < 1:
        raise ValueError(f"{per_shard} samples per shard are too few; choose 1 or more")
    seen: set[str] = set()
    checked = (_checked(sample, seen) for sample in track(samples, f"write {folder.name}"))
    records: list[dict[str, Any]] = []
    with new_folder(folder) as temporary:
        while chunk := _write_tar(temporary / f"{len(records)}.tar", checked, per_shard):
            records.append(describe(temporary / f"{len(records)}.tar", chunk))
        if not records:
            raise ValueError(f"no samples to write to '{folder}'")
        write_text(temporary / "nshards.txt", f"{len(records)}\n")
        write_manifest(temporary, FORMAT, records)
    return [folder / record["name"] for record in records]


def _write_tar(path: Path, samples: Iterator[dict[str, Any]], limit: int) -> int:
    """The number of samples written; no file where there were none."""
    from webdataset.writer import TarWriter

    first = next(samples, None)
    if first is None:
        return 0
    count = 1
    with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as tar:
        tar.write(first)
        for sample in itertools.islice(samples, limit - 1):
            tar.write(sample)
            count += 1
    return count


def _checked(sample: Mapping[str, Any], seen: set[str]) -> dict[str, Any]:
    key = sample.get("__key__")
    if not isinstance(key, str) or "." in key.rpartition("/")[2] or not key.rpartition("/")[2]:
        raise ValueError(f"'{key}' cannot be a key in a tar; use text without a dot")
    if key in seen:
        raise ValueError(f"key '{key}' stands for two samples")
    seen.add(key)
    fields: dict[str, Any] = {"__key__": key}
    for name, value in sample.items():
        if name == "__key__":
            continue
        if not isinstance(value, (bytes, str)) or name.startswith("_"):
            raise ValueError(f"field '{name}' of sample '{key}' is {type(value).__name__}, not bytes")
        fields[name] = value.encode() if isinstance(value, str) else value
    return fields
