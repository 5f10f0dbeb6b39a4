"""Read a stranger's torch file without running anything of it.

A pickle names the functions that rebuild its objects, and may name any.  Here a name yields one of torch's few
functions that put a tensor together, a plain table, or, for classes that trainers are known to save beside their
weights, an inert stand-in that only keeps what it is given.  Every other name is refused before it is looked up.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch._utils

_STAND_INS = (  # modules whose classes are known in trainers' files
    "accelerate.",
    "argparse.",
    "datetime.",
    "deepspeed.",
    "lightning.",
    "lightning_fabric.",
    "numpy.",
    "omegaconf.",
    "packaging.",
    "pathlib.",
    "pkg_resources.extern.packaging.",
    "pytorch_lightning.",
    "pytorch_warmup.",
    "setuptools.extern.packaging.",
    "torch.amp.",
    "torch.cuda.amp.",
    "torch.distributed.checkpoint.",
    "torch.optim.",
    "typing.",  # omegaconf keeps the types of its values
)
_PLAIN_STAND_INS = {
    "_codecs.encode",
    # types by themselves, as a defaultdict names its factory; torch writes protocol 2, which has Python 2's names
    *(f"builtins.{name}" for name in ("bool", "bytearray", "bytes", "complex", "float", "frozenset", "int", "list")),
    *(f"builtins.{name}" for name in ("long", "range", "set", "slice", "str", "tuple", "unicode", "xrange")),
    "torch.device",
    "torch.serialization._get_layout",
    "torch.torch_version.TorchVersion",
    "types.SimpleNamespace",
}


class Inert:
    """Stands for an object of a class that is not loaded.

    Attributes:
        name: module and class that the file names.
        arguments: what the object was to be made of.
        state: what was to be put into it.
    """

    name = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any, **_: Any) -> Inert:
        """A stand-in that keeps the arguments."""
        made = super().__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore an item of what is a dictionary of its own kind."""

    def append(self, value: Any) -> None:
        """Ignore an item of what is a list of its own kind."""

    def extend(self, values: Any) -> None:
        """Ignore items of what is a list of its own kind."""

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Table(dict[Any, Any]):
    """Stands for dictionaries of all kinds; attributes that a file would set are ignored."""

    def __init__(self, *content: Any) -> None:
        super().__init__(*(part for part in content if isinstance(part, (dict, list))))

    def __setstate__(self, state: Any) -> None:
        pass


_MEMBER = "builtins.getattr"


def _member(owner: object, name: object) -> Inert:
    """Stands for a member of an enumeration, which Python 3.11.0 to 3.11.3 write as ``getattr(class, name)``."""
    if isinstance(owner, type) and issubclass(owner, Inert) and isinstance(name, str):
        return owner(name)
    raise _RefusedError(_MEMBER)


_ALLOWED: dict[str, Any] = {
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    "torch.Size": torch.Size,
    "collections.Counter": Table,
    "collections.OrderedDict": Table,
    "collections.defaultdict": Table,
    "builtins.dict": Table,
}


def is_harmless(module: str, name: str) -> bool:
    """Whether a pickle may name this: it puts a tensor or a table together, or only a stand-in is made for it."""
    full = f"{module.replace('__builtin__', 'builtins')}.{name}"
    storage = module == "torch" and name.endswith("Storage") and name.isalpha()  # named where a tensor's bytes lie
    dtype = module == "torch" and isinstance(vars(torch).get(name), torch.dtype)
    return full in _ALLOWED or dtype or storage or _is_known_class(full)


def _is_known_class(full: str) -> bool:
    return full in _PLAIN_STAND_INS or full.startswith(_STAND_INS)


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if full in _ALLOWED:
            return _ALLOWED[full]
        if full == _MEMBER:
            return _member
        if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
            return dtype
        if _is_known_class(full):
            return type(name, (Inert,), {"name": full})
        raise _RefusedError(ascii(full)[1:-1][:120])


class _RefusedError(Exception):
    """A file names what is not on the list."""


def read_inert(path: Path) -> Any:
    """What a file of ``torch.save`` holds; tensors are mapped from the file, not loaded.

    Raises:
        ValueError: no file, damaged, not of ``torch.save``, or it names something that could run code.
    """
    _check_archive(path)
    reader = SimpleNamespace(Unpickler=_InertUnpickler, load=_refuse_old_format, __name__="inert_pickle")
    try:
        return torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False, mmap=True)
    except _RefusedError as error:
        raise _refused(path, error) from None
    except Exception as error:  # torch and pickle raise many kinds for a damaged file
        raise _damaged(path, error) from error


def read_inert_bytes(path: Path, data: bytes) -> Any:
    """What one bare pickle holds, such as the list of contents of a sharded checkpoint; no tensors.

    Args:
        path: where the pickle lies, for what is told.
        data: the pickle.

    Raises:
        ValueError: damaged, or it names something that could run code.
    """
    try:
        return _InertUnpickler(io.BytesIO(data)).load()
    except _RefusedError as error:
        raise _refused(path, error) from None
    except Exception as error:  # pickle raises many kinds for damaged bytes
        raise _damaged(path, error) from error


def _refused(path: Path, error: _RefusedError) -> ValueError:
    return ValueError(f"{path} was refused: it names {error}, which could run code; nothing was run")


def _damaged(path: Path, error: Exception) -> ValueError:
    said = str(error).strip().partition("\n")[0][:120]
    return ValueError(f"{path} is damaged: {type(error).__name__}: {said}; fetch it again")


def _check_archive(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        with path.open("rb") as file:
            whole = file.read(4) == b"PK\x03\x04"
        reason = "is damaged or cut short; fetch it again" if whole else "is not a file of torch.save (1.6 or newer)"
        raise ValueError(f"{path} {reason}") from error
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "data.pkl" not in names or "constants.pkl" in names:
        kind = "a TorchScript archive, which holds code" if "constants.pkl" in names else "a zip without tensors"
        raise ValueError(f"{path} is {kind}; only files of torch.save are read")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(f"{path} was compressed after torch.save wrote it; unpack it and zip it without compression")


def _refuse_old_format(*_: Any, **__: Any) -> Any:
    raise AssertionError("only zip archives are read")
