"""Pickles that would run code: ten ways, shared by the tests of every place that reads a file."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import packaging.version
import torch


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


ATTACKS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda mark: Calls(os.system, f"touch {mark}"), "posix.system"),
    (lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"), "builtins.eval"),
    (lambda mark: Calls(builtins.exec, f"open({str(mark)!r}, 'w')"), "builtins.exec"),
    (lambda mark: Calls(subprocess.check_call, ["touch", str(mark)]), "check_call"),
    (lambda mark: Calls(getattr, Calls(__import__, "os"), "system"), "builtins.__import__"),
    (lambda mark: Calls(open, str(mark), "w"), "open"),
    (lambda mark: {"model": [{"a": (Calls(os.system, f"touch {mark}"),)}]}, "posix.system"),
    (lambda mark: Calls(collections.OrderedDict, Calls(os.system, f"touch {mark}")), "posix.system"),
    (lambda mark: Calls(packaging.version.Version, Calls(os.system, f"touch {mark}")), "posix.system"),
    (lambda mark: Calls(torch.load, str(mark)), "torch.serialization.load"),
]
"""What a file would do to the mark of a path, and the name that tells of it."""


def archive_of(path: Path, pickled: bytes) -> Path:
    """A file of torch.save whose pickle is another one."""
    torch.save({"w": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)
    return path


def plant(path: Path, attack: Callable[[Path], Any], mark: Path) -> Path:
    """A file of torch.save that would leave the mark."""
    return archive_of(path, pickle.dumps({"state_dict": attack(mark)}, 2))
