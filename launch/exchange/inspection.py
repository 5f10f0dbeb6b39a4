"""``robustclip model inspect``: what a file of weights is, without executing anything in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_DEEPEST = 4  # tables within tables that are gone through


def inspect_weights(path: Path) -> dict[str, Any]:
    """Everything that is known of a file or folder, as plain values; ``would_call`` is not empty where it is unsafe.

    Raises:
        ValueError: nothing there, damaged, or of no known format.
    """
    from modules.encoders.formats.folders import kind_of_folder, read_folder
    from modules.pickle_calls import would_call
    from modules.weights_file import holds_code, kind_of, sha256_of

    if not path.exists():
        raise ValueError(f"nothing at {path}")
    if path.is_dir() and kind_of_folder(path) in ("", "run"):
        read_folder(path)  # which says why not, before every file below it is read
    found: dict[str, Any] = {
        "path": str(path),
        "container": _container(path),
        "bytes": sum(file.stat().st_size for file in _files(path)),
        "sha256": sha256_of(path),
        "would_call": [],
    }
    for file in _files(path):
        if kind_of(file) == "pickle" or file.suffix == ".pkl" or file.name == ".metadata":
            found["would_call"] += [call for call in would_call(file) if call not in found["would_call"]]
            if holds_code(file):
                found["would_call"].append(f"the program in {file.name} (TorchScript)")
    return found if found["would_call"] else found | _contents(path)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _container(path: Path) -> str:
    from modules.encoders.formats.folders import kind_of_folder
    from modules.weights_file import is_zip, kind_of

    if path.is_dir():
        return f"folder ({kind_of_folder(path) or 'unknown'})"
    if kind_of(path) == "safetensors":
        return "safetensors"
    return "torch.save (zip)" if is_zip(path) else "torch.save before 1.6, or a bare pickle"


def _contents(path: Path) -> dict[str, Any]:
    """Format, tensors and towers of a file that is safe to read."""
    import torch

    from modules.encoders.formats import Towers, format_of
    from modules.encoders.formats.base import choice_of
    from modules.encoders.formats.folders import read_folder
    from modules.perceptual.head_file import HEAD
    from modules.weights_file import read_content

    content, metadata = read_folder(path)[:2] if path.is_dir() else read_content(path)
    known = format_of(content)
    if known is None:
        raise ValueError(f"{path} holds no tensors at a place that is known")
    towers, refused, head = Towers({}), "", metadata.get("kind") == HEAD
    try:
        towers = towers if head else known.towers(content)
    except ValueError as error:
        refused = str(error)
    tensors = dict(_tensors(content))
    dtypes = [str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()]
    return {
        "format": HEAD if head else known.name,
        "title": "a head, for model.head (robustclip perceptual)" if head else known.title,
        "tensors": len(tensors),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "dtypes": {name: dtypes.count(name) for name in sorted(set(dtypes))},
        "not_finite": [n for n, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()],
        "image_tower": _tower(towers.visual),
        "text_tower": {"tensors": len(towers.text), "parameters": _numbers(towers.text)} if towers.text else None,
        "notes": [*towers.notes, *filter(None, [choice_of(content)]), *([refused] if refused else [])],
        "metadata": _plain(metadata),
        "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
    }


def _tower(visual: Mapping[str, Tensor]) -> dict[str, Any] | None:
    from modules.encoders.architecture import architecture_of, models_like

    if not visual:
        return None
    found = architecture_of(visual)
    return {
        "tensors": len(visual),
        "parameters": _numbers(visual),
        "architecture": found.to_json() if found else None,
        "models": models_like(visual),
    }


def _numbers(state: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in state.values())


def _tensors(content: Mapping[Any, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    from torch import Tensor

    for name, value in content.items():
        if isinstance(value, Tensor):
            yield f"{before}{name}", value
        elif isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _tensors(value, f"{before}{name}.", depth + 1)


def _plain(value: Any) -> Any:
    """Plain values of a stranger's metadata; anything else as the name of its kind."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else f"<{type(value).__name__}>"
