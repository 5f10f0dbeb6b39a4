"""The members of a tar, found by its headers alone; what is odd is refused and counted."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data.faults import OneLineError

MAX_MEMBER_BYTES = 2**28
_HEADER_BYTES, _GLOBAL_HEADERS, _NAME_LENGTH = 2**18, 100, 1024
_NAME = re.compile(r"^((?:.*/)?[^./]+)\.([^/]+)$", re.DOTALL)  # webdataset: split at the first dot
_SYSTEMS_OWN = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})  # Windows's and macOS's
_META = re.compile(r"__[^/]*__($|/)")
_PICKLED = frozenset({"pkl", "pickle", "pyd", "pth", "pt"})
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"PK\3\4": "zip",
}
_ZERO_BLOCK = bytes(tarfile.BLOCKSIZE)


REFUSALS = (
    "link",
    "not a plain file",
    "path leaves the folder",
    "too large",
    "name is not UTF-8",
    "name is too long",
    "no key and extension",
    "pickled",
    "duplicate member",
    "damaged shard",
)


class ShardError(OneLineError):
    """A shard that cannot be read as it stands."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a shard: sample key, lower-case extension, first byte, number of bytes."""

    key: str
    ext: str
    offset: int
    size: int


def members(
    path: Path, rejected: Counter[str], *, max_member_bytes: int = MAX_MEMBER_BYTES, file: BinaryIO | None = None
) -> Iterator[Member]:
    """The plain files of an uncompressed tar in their order; no byte of their content is read.

    Memory stays small whatever the tar says: headers are bounded, and none is kept.  Links, devices, names that leave
    the folder or are endless, pickles and giants are skipped and counted in
    ``rejected`` by reason, of which ``REFUSALS`` has all.  Folders, hidden files and what systems leave in folders
    (``.DS_Store``, ``._photo.jpg``, ``Thumbs.db``) are skipped without a word.

    Args:
        path: of the tar.
        rejected: is counted in.
        max_member_bytes: size above which a member is a giant.
        file: the tar, where it is open already; who reads it too may leave it at any place.

    Raises:
        ShardError: not a tar, damaged, or cut short, be it between two members.
    """
    try:
        with path.open("rb") if file is None else nullcontext(file) as file:
            length = file.seek(0, 2)
            file.seek(0)
            _refuse_packed(path, file.read(8), length)
            file.seek(0)
            headers = _Headers(file)
            with tarfile.open(fileobj=headers, mode="r:") as tar:  # pyright: ignore[reportArgumentType, reportCallIssue]
                while (info := headers.of_next(tar)) is not None:
                    if info.offset_data + info.size > length or info.size < 0:
                        raise ShardError(_cut_short(path, f"in member {info.name!a:.120}"))
                    member = _accept(info, rejected, max_member_bytes)
                    if member is not None:
                        yield member
                # tarfile stops in silence at a header it cannot read; a whole tar ends with zeros.
                file.seek(tar.offset)
                if file.read(tarfile.BLOCKSIZE) != _ZERO_BLOCK:
                    raise ShardError(_cut_short(path, f"at byte {tar.offset}, without an end mark"))
    except ShardError:
        raise
    except FileNotFoundError as error:
        raise ShardError(f"no shard '{path}'; check the path") from error
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, RecursionError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ShardError(f"shard '{path}' is not a readable, uncompressed tar ({detail})") from error


@dataclass(frozen=True)
class TarSamples:
    """The samples of a tar, grouped by key.

    Attributes:
        samples: members of each key by extension, in the order of the first ones.
        rejected: refused members by reason.
        fault: why the tar is damaged, with all complete samples kept; empty where it is not.
    """

    samples: dict[str, dict[str, Member]]
    rejected: Counter[str]
    fault: str


def group_members(path: Path, *, max_member_bytes: int = MAX_MEMBER_BYTES, file: BinaryIO | None = None) -> TarSamples:
    """Return the samples of a tar: members of one key belong together wherever they lie, the first of a name counts.

    Args:
        path, max_member_bytes, file: as in ``members``.
    """
    samples: dict[str, dict[str, Member]] = {}
    rejected: Counter[str] = Counter()
    last = fault = ""
    try:
        for member in members(path, rejected, max_member_bytes=max_member_bytes, file=file):
            last = member.key
            if samples.setdefault(last, {}).setdefault(member.ext, member) is not member:
                rejected["duplicate member"] += 1
    except ShardError as error:
        fault = str(error)
        samples.pop(last, None)  # it may have lost a part
    return TarSamples(samples, rejected, fault)


class _Headers:
    """A tar of which only headers are read, and of one member's not more than ``_HEADER_BYTES``.

    Extended headers may claim any size and follow each other without end; tarfile would read them all into memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, _HEADER_BYTES

    def of_next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """The next member's header."""
        self._left = _HEADER_BYTES
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue] (tarfile remembers all that it has seen)
        found = tar.next()
        if len(tar.pax_headers) > _GLOBAL_HEADERS:
            raise tarfile.HeaderError(f"more than {_GLOBAL_HEADERS} global headers")
        return found

    def read(self, size: int) -> bytes:
        """At most so many bytes."""
        self._left -= size
        if self._left < 0:
            raise tarfile.HeaderError(f"a header of more than {_HEADER_BYTES} bytes")
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        """Go to a place, counted from the beginning."""
        return self._file.seek(offset)

    def tell(self) -> int:
        """The place."""
        return self._file.tell()


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one that an operating system left there."""
    return name.startswith(".") or name in _SYSTEMS_OWN


def _refuse_packed(path: Path, start: bytes, length: int) -> None:
    """Refuse a file that is plainly no tar, by its first bytes, and say what it is."""
    if not length:
        raise ShardError(f"shard '{path}' has 0 bytes; fetch or make it again")
    kind = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if kind is not None:
        raise ShardError(
            f"shard '{path}' is not a readable, uncompressed tar: it is packed with {kind}; unpack it first"
        )


def _cut_short(path: Path, where: str) -> str:
    return f"shard '{path}' is damaged or cut short {where}; fetch or make it again"


def _accept(info: tarfile.TarInfo, rejected: Counter[str], max_member_bytes: int) -> Member | None:
    if info.isdir() or _META.match(info.name):
        return None
    reason = _refusal(info, max_member_bytes)
    if reason is None and is_hidden(info.name.rpartition("/")[2]):
        return None
    match = None if reason else _NAME.match(info.name)
    if match is None:
        rejected[reason or "no key and extension"] += 1
        return None
    key, ext = match.group(1), match.group(2).lower()
    if ext.rpartition(".")[2] in _PICKLED:
        rejected["pickled"] += 1
        return None
    return Member(key, ext, info.offset_data, info.size)


def _refusal(info: tarfile.TarInfo, max_member_bytes: int) -> str | None:
    if info.issym() or info.islnk():
        return "link"
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
        return "not a plain file"
    if info.name.startswith("/") or ".." in re.split(r"[/\\]", info.name) or "\0" in info.name:
        return "path leaves the folder"
    if len(info.name) > _NAME_LENGTH:
        return "name is too long"
    if info.size > max_member_bytes:
        return "too large"
    if not info.name.isascii() and info.name.encode("utf-8", "replace").decode() != info.name:
        return "name is not UTF-8"  # tarfile smuggles such bytes in as lone surrogates
    return None
