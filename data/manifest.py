"""Folders that are either whole or absent, and the ``index.json`` that lists their shards.

A tar that lost its end between two samples can look whole; only a list of sizes finds every cut.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.folder_lock import locked_folder
from data.text_files import read_text

MANIFEST = "index.json"


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends well, and vanishes otherwise.

    Raises:
        ValueError: the folder exists and is not empty, cannot be written, or another process is making it.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    _refuse_full(folder)
    with locked_folder(folder, beside=True):
        _refuse_full(folder)  # whoever held the lock may have made it
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            yield temporary
            temporary.chmod(0o755)
            temporary.replace(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _refuse_full(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"'{folder}' exists and is not empty; choose another folder or remove it")


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to a temporary name beside ``path``, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def describe(path: Path, count: int) -> dict[str, Any]:
    """The manifest's record of one shard: its name, samples, bytes and sha256."""
    size = path.stat().st_size
    return {"name": path.name, "count": count, "bytes": size, "sha256": sha256_of(path)}


def write_manifest(folder: Path, form: str, shards: list[dict[str, Any]], **fields: Any) -> None:
    """Write ``index.json``: format, number of samples, ``fields``, and a record per shard."""
    total = sum(shard["count"] for shard in shards)
    content = {"format": form, "count": total, **fields, "shards": shards}
    write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def read_manifest(folder: Path, form: str) -> dict[str, Any] | None:
    """The content of the folder's ``index.json``; None where there is none of this format.

    Raises:
        ValueError: it claims the format and lacks its fields.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is not JSON ({error}); make the shards again") from error
    if not isinstance(content, dict) or content.get("format") != form:
        return None
    wanted = {"name": str, "count": int, "bytes": int, "sha256": str}
    shards = content.get("shards")
    if not isinstance(shards, list) or not all(
        isinstance(shard, dict) and all(isinstance(shard.get(k), t) for k, t in wanted.items()) for shard in shards
    ):
        raise ValueError(f"'{path}' lacks the record of a shard; make the shards again")
    return content


def check_file(path: Path, record: dict[str, Any], *, checksum: bool = False) -> None:
    """Compare a shard with its record: bytes always, sha256 on demand.

    Raises:
        ValueError: they differ.
    """
    size = path.stat().st_size
    if size != record["bytes"]:
        raise ValueError(
            f"shard '{path}' has {size} bytes but {MANIFEST} says {record['bytes']}; fetch or make it again"
        )
    if checksum and sha256_of(path) != record["sha256"]:
        raise ValueError(f"shard '{path}' does not match its sha256 in {MANIFEST}; fetch or make it again")


def sha256_of(path: Path) -> str:
    """The file's sha256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
