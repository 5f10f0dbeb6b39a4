"""Where the samples of one tar lie, in memory and as a file: flat arrays that are read without parsing."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from data.tars import MAX_MEMBER_BYTES, REFUSALS, ShardError, group_members

MAGIC = b"robustclip-shard-index/1\n"
MAX_INDEXED_BYTES = 2**32 - 1
MAX_EXTENSIONS = 2**16
_BLOCK, _PROBES = 512, 16


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The samples of one tar in the order of their first members.

    Attributes:
        tar: ``bytes`` and ``mtime_ns`` of the tar, and the ``probe`` of some of its headers.
        extensions: all that occur; members name theirs by number.
        rejected: refused members by reason.
        fault: why the tar is damaged, with all whole samples indexed; empty where it is not.
        first: sample i has the members first[i] .. first[i + 1] - 1, [N + 1] uint32.
        offset: of each member's first byte, [M] int64.
        size: of each member in bytes, [M] uint32.
        extension: of each member, [M] uint16.
        key_ends: where each key ends in ``key_text``, [N] uint32.
        key_text: all keys, UTF-8, uint8.
        key_hash: 64 bits of each key's hash, [N] uint64.
    """

    tar: dict[str, Any]
    extensions: tuple[str, ...]
    rejected: dict[str, int]
    fault: str
    first: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    extension: np.ndarray
    key_ends: np.ndarray
    key_text: np.ndarray
    key_hash: np.ndarray

    def __len__(self) -> int:
        return len(self.key_ends)

    def key(self, i: int) -> str:
        """The key of sample i."""
        start = int(self.key_ends[i - 1]) if i else 0
        return self.key_text[start : int(self.key_ends[i])].tobytes().decode(errors="replace")

    def all_keys(self) -> list[str]:
        """All keys."""
        text, start, found = self.key_text.tobytes(), 0, []
        for end in self.key_ends.tolist():
            found.append(text[start:end].decode(errors="replace"))
            start = end
        return found

    def equals(self, other: ShardIndex) -> bool:
        """Whether both describe the same members and refuse the same ones; the tar's time may differ."""
        return self.rejected == other.rejected and self.has_members_of(other)

    def has_members_of(self, other: ShardIndex) -> bool:
        """Whether both describe the same members; what is refused differs between versions of this program."""
        same = (self.extensions, self.tar["bytes"]) == (other.extensions, other.tar["bytes"])
        return same and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _ARRAYS)


_ARRAYS = {
    "offset": np.dtype("<i8"),
    "key_hash": np.dtype("<u8"),
    "size": np.dtype("<u4"),
    "first": np.dtype("<u4"),
    "key_ends": np.dtype("<u4"),
    "extension": np.dtype("<u2"),
    "key_text": np.dtype("u1"),
}
assert set(_ARRAYS) < {field.name for field in fields(ShardIndex)}


def index_tar(path: Path, *, max_member_bytes: int = MAX_MEMBER_BYTES) -> ShardIndex:
    """The index of a tar, from one pass over its headers.

    A tar that is damaged or cut short gives its whole samples and says so in ``fault``.

    Raises:
        ValueError: no such file.
    """
    if not path.is_file():
        raise ShardError(f"no shard '{path}'; check the path")
    status = path.stat()
    grouped = group_members(path, max_member_bytes=min(max_member_bytes, MAX_INDEXED_BYTES))
    samples = grouped.samples
    found = [member for parts in samples.values() for member in parts.values()]
    names = tuple(dict.fromkeys(member.ext for member in found))
    if len(names) > MAX_EXTENSIONS:
        raise ShardError(f"shard '{path}' has members of {len(names)} kinds; {MAX_EXTENSIONS} can be told apart")
    number = {name: i for i, name in enumerate(names)}
    keys = [key.encode() for key in samples]
    offsets = np.array([member.offset for member in found], dtype=np.int64)
    sizes = np.array([member.size for member in found], dtype=np.uint32)
    return ShardIndex(
        tar={"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "probe": probe(path, offsets, sizes)},
        extensions=names,
        rejected=dict(grouped.rejected),
        fault=grouped.fault,
        first=np.cumsum([0, *map(len, samples.values())], dtype=np.uint32),
        offset=offsets,
        size=sizes,
        extension=np.array([number[member.ext] for member in found], dtype=np.uint16),
        key_ends=np.cumsum([len(key) for key in keys], dtype=np.uint32),
        key_text=np.frombuffer(b"".join(keys), dtype=np.uint8),
        key_hash=np.array([hash_of(key) for key in keys], dtype=np.uint64),
    )


def hash_of(key: bytes) -> int:
    """64 bits of a key's hash."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")


def probe(path: Path, offset: np.ndarray, size: np.ndarray) -> str:
    """A hash of some headers of a tar, the first and the last member's among them, and of what follows the last.

    A member that is added, lost or of another size moves all that come after it, so that a few headers tell.

    Args:
        path: of the tar.
        offset: of the members' first bytes, [M].
        size: of the members, [M].
    """
    places = [0]
    if len(offset):
        rows = np.linspace(0, len(offset) - 1, min(len(offset), _PROBES)).astype(int)
        last = int(offset.argmax())
        places = [*(int(offset[row]) - _BLOCK for row in rows), int(offset[last]) - _BLOCK]
        places.append(-(-(int(offset[last]) + int(size[last])) // _BLOCK) * _BLOCK)
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as file:
        for place in places:
            digest.update(os.pread(file.fileno(), _BLOCK, place))
    return digest.hexdigest()


def pack_index(index: ShardIndex) -> bytes:
    """The content of an index file: a line of JSON, the arrays end to end, a checksum."""
    header = {
        "tar": index.tar,
        "extensions": index.extensions,
        "rejected": index.rejected,
        "fault": index.fault,
        "lengths": {name: len(getattr(index, name)) for name in _ARRAYS},
    }
    line = json.dumps(header).encode()
    line += b" " * (-(len(MAGIC) + len(line) + 1) % 8) + b"\n"
    parts = [MAGIC, line, *(getattr(index, name).astype(kind).tobytes() for name, kind in _ARRAYS.items())]
    content = b"".join(parts)
    return content + zlib.crc32(content).to_bytes(4, "little")


def unpack_index(content: bytes) -> ShardIndex:
    """The index in a file's content; its arrays look into ``content``.

    Raises:
        ValueError: another format, damaged, or members that cannot be where it says.
    """
    if not content.startswith(MAGIC):
        raise ValueError("not an index of this version")
    if len(content) < len(MAGIC) + 4 or zlib.crc32(memoryview(content)[:-4]) != int.from_bytes(content[-4:], "little"):
        raise ValueError("damaged")
    try:
        at = content.index(b"\n", len(MAGIC)) + 1
        header = json.loads(content[len(MAGIC) : at])
        arrays = {}
        for name, kind in _ARRAYS.items():
            arrays[name] = np.frombuffer(content, kind, header["lengths"][name], at)
            at += arrays[name].nbytes
        index = ShardIndex(
            tar={"bytes": int(header["tar"]["bytes"]), **header["tar"]},
            extensions=tuple(map(str, header["extensions"])),
            rejected={str(reason): int(count) for reason, count in header["rejected"].items()},
            fault=str(header["fault"]),
            **arrays,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not as an index should be") from error
    if not _sound(index):
        raise ValueError("not as an index should be")
    return index


def _sound(index: ShardIndex) -> bool:
    """Whether all members lie inside the tar, all keys inside their text, and each sample has a member.

    Whoever wrote the index, no member is larger than one of a tar may be, and its words are those of this program.
    """
    count, size = len(index), len(index.offset)
    first, ends = index.first.astype(np.int64), index.key_ends.astype(np.int64)
    if not (len(first) == count + 1 == len(index.key_hash) + 1 and size == len(index.size) == len(index.extension)):
        return False
    return bool(
        (first[0], first[-1]) == (0, size)
        and index.rejected.keys() <= set(REFUSALS)
        and index.fault.isprintable()
        and (index.size <= MAX_MEMBER_BYTES).all()
        and (np.diff(first) > 0).all()
        and (index.extension < len(index.extensions)).all()
        and (index.offset >= _BLOCK).all()
        and (index.offset <= index.tar["bytes"]).all()
        and (index.offset + index.size.astype(np.int64) <= index.tar["bytes"]).all()
        and (np.diff(ends) > 0).all()
        and (int(ends[-1]) if count else 0) == len(index.key_text)
    )
