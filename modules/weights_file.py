"""What a file of weights holds, as it lies there, without ever running code from it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from modules.inert_pickle import read_inert
from modules.odd_tensors import refuse_odd

FORMATS = ".safetensors, .ckpt, .pt, .pth, .bin"
_ZIP = b"PK\x03\x04"
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


def read_content(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The dictionary in a file and the metadata beside it; nothing in it is executed.

    Raises:
        ValueError: the file is missing, of another kind, damaged, or names what could run code.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file ({FORMATS})")
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    _refuse_downloads_gone_wrong(path)
    kind = kind_of(path)
    if kind == "safetensors":
        state, metadata = _read_safetensors(path)
        refuse_odd(path, state)
        return state, metadata
    if kind != "pickle":
        raise ValueError(f"{path} is not a checkpoint that can be read; choose one of: {FORMATS}")
    content = _read_pickle(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    refuse_odd(path, content)
    metadata = content.get("robustclip", {})
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    if "global_step" in content:  # Lightning's
        metadata = {"step": content["global_step"], **metadata}
    return content, metadata


def _refuse_downloads_gone_wrong(path: Path) -> None:
    """Refuse what lies where weights were to be downloaded to.

    Raises:
        ValueError: nothing, a pointer of Git LFS, or a web page.
    """
    with path.open("rb") as file:
        begin = file.read(100).lstrip().lower()
    if not begin:
        raise ValueError(f"{path} is empty; fetch it again")
    if begin.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a pointer of Git LFS and not the weights; run git lfs pull in its folder")
    if begin.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(f"{path} is a web page and not the weights; download the file behind that page")


def kind_of(path: Path) -> str:
    """``safetensors``, ``pickle`` (torch.save, zipped or not), or nothing: by a file's first bytes, then its name."""
    with path.open("rb") as file:
        begin = file.read(9)
    header = int.from_bytes(begin[:8], "little")
    if path.suffix == ".safetensors" or (begin[8:] == b"{" and 0 < header < path.stat().st_size):
        return "safetensors"  # whoever gives a file that name promises that it is no pickle
    if begin.startswith((_ZIP, b"\x80")):
        return "pickle"
    return "pickle" if path.suffix in _PICKLES else ""


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip archive does."""
    with path.open("rb") as file:
        return file.read(4) == _ZIP


def is_whole(path: Path) -> bool:
    """Whether every byte of a checkpoint is as it was written, nothing of it compressed since."""
    try:
        with zipfile.ZipFile(path) as file:
            return not is_compressed(path) and file.testzip() is None
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        return False


def is_compressed(path: Path | IO[bytes]) -> bool:
    """Whether an archive was compressed after torch.save wrote it: mapped, its tensors would be other numbers."""
    try:
        with zipfile.ZipFile(path) as file:
            return any(entry.compress_type != zipfile.ZIP_STORED for entry in file.infolist())
    except (OSError, zipfile.BadZipFile):
        return False


def holds_code(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which is a program with its weights."""
    try:
        with zipfile.ZipFile(path) as file:
            return any(name.endswith("/constants.pkl") for name in file.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's files by name."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _read_pickle(path: Path) -> Any:
    archive = is_zip(path)
    if archive and holds_code(path):
        raise ValueError(
            f"{path} was not loaded: it is a TorchScript archive, which holds code; save its state_dict() "
            "as .safetensors where you trust it"
        )
    if archive and is_compressed(path):
        raise ValueError(f"{path} was not loaded: it was compressed after torch.save wrote it; zip it uncompressed")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        if "nsupported" not in str(error):
            raise ValueError(f"{path} was not loaded: it is damaged; convert it to .safetensors") from error
        if not archive:
            reason = "it holds objects that could run code"
            raise ValueError(f"{path} was not loaded: {reason}; convert it to .safetensors") from error
    try:
        return read_inert(path)  # trainers keep numbers of numpy and settings of argparse beside their weights
    except ValueError as error:
        _, _, reason = str(error).partition(" was refused: ")
        reason = reason.partition(";")[0] or "it holds objects that could run code"
        raise ValueError(f"{path} was not loaded: {reason}; nothing was run; convert it to .safetensors") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get("robustclip", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error
    return state, metadata if isinstance(metadata, dict) else {}
