"""What a pickle would call if it were loaded: every name in it is replaced by one that only takes notes."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

from modules.inert_pickle import is_harmless
from modules.weights_file import is_zip

_LARGEST = 1 << 28  # bytes of a pickle that are read; lists of tensors are far smaller
_TORCH_BEFORE_1_6 = 0x1950A86A20F9469CFC6C  # the number that such a file begins with
_SHOWN = 160
_MOST = 50


class _Noted:
    """Stands for whatever a name would have given; ``full`` is that name, ``calls`` the notes, ``_told`` its own."""

    full = ""
    calls: list[str]
    _told: str

    def __new__(cls, *arguments: Any, **_: Any) -> _Noted:
        made = object.__new__(cls)
        made._told = cls.note(cls.full, arguments)
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    @classmethod
    def note(cls, name: str, arguments: tuple[Any, ...]) -> str:
        told = f"{name}({', '.join(map(_short, arguments))})"[:_SHOWN]
        if cls.full and told not in cls.calls and len(cls.calls) < _MOST:
            cls.calls.append(told)
        return told

    def __call__(self, *arguments: Any, **_: Any) -> _Noted:
        self.note(self._told, arguments)
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    def add(self, value: Any) -> None:
        pass


class _Silent(_Noted):
    """As ``_Noted``, for names that a checkpoint may hold."""

    @classmethod
    def note(cls, name: str, arguments: tuple[Any, ...]) -> str:
        return name


class _Attribute(_Noted):
    """As ``_Noted``, but for a member of a class that a checkpoint may hold: so some releases of Python write it."""

    @classmethod
    def note(cls, name: str, arguments: tuple[Any, ...]) -> str:
        owner = arguments[0] if arguments else None
        if name == cls.full and isinstance(owner, type) and issubclass(owner, _Silent):
            return name
        return super().note(name, arguments)


def _short(value: Any) -> str:
    """A value in a few printable characters; nothing of a stranger's class is asked."""
    if isinstance(value, _Noted):
        return value._told[:80]
    if isinstance(value, type) and issubclass(value, _Noted):
        return value.full
    if isinstance(value, (str, bytes)):
        return ascii(value[:80]) + ("…" if len(value) > 80 else "")
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 1 << 64):
        return repr(value)
    if isinstance(value, (list, tuple)):
        inside = ", ".join(_short(part) for part in value[:4] if not isinstance(part, (list, tuple, dict)))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return f"<{type(value).__name__}>"


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: Any, calls: list[str], names: list[str]) -> None:
        super().__init__(stream)
        self._calls, self._names = calls, names

    def find_class(self, module: str, name: str) -> Any:
        full = ascii(f"{module.replace('__builtin__', 'builtins')}.{name}")[1:-1][:_SHOWN]
        if is_harmless(module, name):
            return type("Silent", (_Silent,), {"full": full, "calls": self._calls})
        if full == "builtins.getattr":
            return type("Attribute", (_Attribute,), {"full": full, "calls": self._calls})
        if full not in self._names and len(self._names) < _MOST:
            self._names.append(full)
        return type("Noted", (_Noted,), {"full": full, "calls": self._calls})

    def persistent_load(self, pid: Any) -> Any:
        return None


def would_call(path: Path) -> list[str]:
    """What loading a file without care could run, call by call and then names that are only looked up; often nothing.

    Read are files of ``torch.save``, old and new, and bare pickles; of others nothing is said.
    """
    calls: list[str] = []
    names: list[str] = []
    for pickled in _pickles(path):
        stream = io.BytesIO(pickled)
        for _ in range(5):  # files before torch 1.6 are five pickles, one after the other
            begun = stream.tell()
            try:
                first = _Unpickler(stream, calls, names).load()
            except Exception:  # of damaged pickles, what was seen so far counts
                break
            if begun == 0 and first != _TORCH_BEFORE_1_6:
                break
    return [*calls, *(name for name in names if not any(call.startswith(f"{name}(") for call in calls))]


def _pickles(path: Path) -> list[bytes]:
    if not is_zip(path):
        with path.open("rb") as file:
            return [file.read(_LARGEST)]
    try:
        with zipfile.ZipFile(path) as archive:
            found = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
            return [archive.read(entry) for entry in found if entry.file_size < _LARGEST]
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError):
        return []
