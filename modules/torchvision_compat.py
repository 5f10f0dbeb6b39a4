"""Let ``import torchvision`` work where its compiled extension cannot be loaded.

torchvision's Linux wheels are linked against CUDA.  Beside a CPU-only torch the extension does not load, and the
import dies with "operator torchvision::nms does not exist", although all that open_clip, timm, torchmetrics and
Lightning use of it is plain Python.  ``install`` adds a hook that acts at the first import of torchvision: where the
extension does not load, it declares the two operators that torchvision describes to the compiler unconditionally.
Calling them still raises torchvision's own error.  Costs nothing until torchvision is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []  # a torch library's declarations live as long as the object


class _TorchvisionFinder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            spec = PathFinder.find_spec(fullname, path)
            folders = spec.submodule_search_locations if spec is not None else None
            if folders and not _extension_loads([Path(folder) for folder in folders]):
                _declare_operators()
        return None  # the ordinary finders load the module


def _extension_loads(folders: Sequence[Path]) -> bool:
    import torch

    for folder in folders:
        for library in (file for end in ("so", "pyd", "dylib") for file in folder.glob(f"_C*.{end}")):
            try:
                torch.ops.load_library(str(library))
            except (OSError, ImportError, RuntimeError):
                continue
            return True
    return False


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)


def install() -> None:
    """Put the hook in place, once, unless torchvision is already there."""
    hooked = any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path)
    if "torchvision" not in sys.modules and not hooked:
        sys.meta_path.insert(0, _TorchvisionFinder())
