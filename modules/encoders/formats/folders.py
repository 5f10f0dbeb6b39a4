"""Folders of weights: hub folders of open_clip and transformers, and checkpoints in pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modules.encoders.formats.base import Facts
from modules.encoders.formats.dcp import is_dcp, read_dcp
from modules.encoders.formats.deepspeed import is_deepspeed, read_deepspeed
from modules.weights_file import read_content

HUB_CONFIG = "open_clip_config.json"
_INDEX = "model.safetensors.index.json"
_WEIGHTS = (  # what is looked for, the first found is taken
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)


def kind_of_folder(folder: Path) -> str:
    """``dcp``, ``deepspeed``, ``open_clip hub``, ``transformers hub``, ``run``, or nothing."""
    if is_dcp(folder):
        return "dcp"
    if is_deepspeed(folder):
        return "deepspeed"
    if (folder / HUB_CONFIG).is_file():
        return "open_clip hub"
    if (folder / "config.json").is_file() and weights_in(folder) is not None:
        return "transformers hub"
    return "run" if (folder / "config.yaml").is_file() else ""


def weights_in(folder: Path) -> Path | None:
    """The file of weights in a hub folder, or the list of its pieces."""
    return next((folder / name for name in (*_WEIGHTS, _INDEX) if (folder / name).is_file()), None)


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any], Facts]:
    """The dictionary in a folder, the metadata beside it, and what its config says of the network.

    Raises:
        ValueError: it is no such folder, damaged, refused, or lacks its weights.
    """
    kind = kind_of_folder(folder)
    if kind == "dcp":
        return dict(read_dcp(folder)), {}, Facts()
    if kind == "deepspeed":
        return read_deepspeed(folder), {}, Facts()
    if kind == "run":
        raise ValueError(f"{folder} is the folder of a run; name its export/encoder.safetensors or a checkpoint in it")
    if not kind:
        raise ValueError(
            f"{folder} is a folder without weights that are known ({HUB_CONFIG}, config.json with model.safetensors, "
            ".metadata, or DeepSpeed's files)"
        )
    file = weights_in(folder)
    if file is None:
        raise ValueError(f"{folder} has no weights beside its config; looked for {', '.join(_WEIGHTS)}")
    content, metadata = _pieces(file) if file.name == _INDEX else read_content(file)
    return content, metadata, facts_of(folder)


def facts_of(folder: Path) -> Facts:
    """What the config in a hub folder says of the network.

    Raises:
        ValueError: the config cannot be read.
    """
    file = folder / HUB_CONFIG
    if file.is_file():
        config = _json(file)
        model, pixels = config.get("model_cfg", {}), config.get("preprocess_cfg", {})
        size = model.get("vision_cfg", {}).get("image_size")
        timm = "timm_model_name" in model.get("vision_cfg", {})  # whose activation is its own
        return Facts(
            quick_gelu=None if timm else bool(model.get("quick_gelu", False)),
            mean=tuple(pixels["mean"]) if "mean" in pixels else None,
            std=tuple(pixels["std"]) if "std" in pixels else None,
            image_size=size if isinstance(size, int) else None,
        )
    vision = _json(folder / "config.json").get("vision_config", {})
    pixels = _json(folder / "preprocessor_config.json") if (folder / "preprocessor_config.json").is_file() else {}
    act = vision.get("hidden_act")
    return Facts(
        quick_gelu=None if act not in ("quick_gelu", "gelu") else act == "quick_gelu",
        mean=tuple(pixels["image_mean"]) if "image_mean" in pixels else None,
        std=tuple(pixels["image_std"]) if "image_std" in pixels else None,
        image_size=vision.get("image_size") if isinstance(vision.get("image_size"), int) else None,
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON that can be read ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not a config")
    return content


def _pieces(index: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of weights that are split over several safetensors files."""
    names = sorted(set(_json(index).get("weight_map", {}).values()))
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise ValueError(f"{index} does not list files of its folder")
    found: dict[str, Any] = {}
    for name in names:
        found |= read_content(index.parent / name)[0]
    return found, {}
