"""What network an image tower's tensors are of, read off their shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

TIMM_VIT = {192: "tiny", 384: "small", 768: "base", 1024: "large"}


@dataclass(frozen=True)
class Architecture:
    """Sizes of an image tower; None where its tensors do not say.

    Attributes:
        kind: ``vit``, ``resnet`` or ``timm``.
        embedding_dim: D.
        width: of the tokens, or of the first stage.
        layers: blocks, or blocks of each stage.
        patch_size: in pixels.
        image_size: H = W of the images that the positions are for.
    """

    kind: str
    embedding_dim: int | None = None
    width: int | None = None
    layers: int | tuple[int, ...] | None = None
    patch_size: int | None = None
    image_size: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def architecture_of(state: Mapping[str, Tensor]) -> Architecture | None:
    """The network whose image tower this is, in open_clip's or timm's names; None for anything else."""
    if "conv1.weight" in state and "class_embedding" in state:
        return _vit(state)
    if "attnpool.positional_embedding" in state and "conv1.weight" in state:
        stages = tuple(_count(state, rf"layer{i}\.(\d+)\.") for i in range(1, 5))
        grid = math.isqrt(max(len(state["attnpool.positional_embedding"]) - 1, 0))
        out = state.get("attnpool.c_proj.weight")
        width = 2 * len(state["conv1.weight"])
        return Architecture("resnet", None if out is None else len(out), width, stages, None, 32 * grid)
    prefix = "trunk." if any(name.startswith("trunk.") for name in state) else ""
    patch = state.get(f"{prefix}patch_embed.proj.weight", state.get(f"{prefix}stem.0.weight"))
    if patch is None or patch.dim() != 4:
        return None
    return _timm(state, prefix, patch)


def _vit(state: Mapping[str, Tensor]) -> Architecture:
    width, patch = state["conv1.weight"].shape[0], state["conv1.weight"].shape[-1]
    positions, proj = state.get("positional_embedding"), state.get("proj")
    return Architecture(
        "vit",
        None if proj is None else proj.shape[-1],
        width,
        _count(state, r"transformer\.resblocks\.(\d+)\."),
        patch,
        None if positions is None else math.isqrt(max(len(positions) - 1, 0)) * patch,
    )


def _timm(state: Mapping[str, Tensor], prefix: str, patch: Tensor) -> Architecture:
    stages = _count(state, rf"{prefix}stages\.(\d+)\.")
    layers = tuple(_count(state, rf"{prefix}stages\.{i}\.blocks\.(\d+)\.") for i in range(stages)) if stages else None
    blocks = _count(state, rf"{prefix}blocks\.(\d+)\.")
    positions = state.get(f"{prefix}pos_embed")
    grid = None if positions is None or positions.dim() != 3 else math.isqrt(max(positions.shape[1] - 1, 0))
    out = state.get("head.proj.weight", state.get("head.mlp.fc2.weight"))
    return Architecture(
        "timm",
        None if out is None and stages else len(out) if out is not None else len(patch),
        len(patch),
        layers or blocks or None,
        None if stages else patch.shape[-1],
        grid * patch.shape[-1] if grid and not stages else None,
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for name in state if (found := re.match(pattern, name))})


def models_like(state: Mapping[str, Tensor]) -> list[str]:
    """Names of models, open_clip's or ``timm/…``, whose image tower has these sizes, shortest first; a guess."""
    found = architecture_of(state)
    if found is None:
        return []
    import timm

    if found.kind == "timm" and not any(name.startswith("trunk.") for name in state):
        size = TIMM_VIT.get(found.width or 0)
        name = f"vit_{size}_patch{found.patch_size}_{found.image_size}"
        return [f"timm/{name}"] if isinstance(found.layers, int) and timm.is_model(name) else []
    import open_clip

    from modules.encoders.tiny import ARCHITECTURE

    configs = {"tiny": ARCHITECTURE} | {
        name: open_clip.get_model_config(name) or {} for name in open_clip.list_models()
    }
    fit = [name for name, config in configs.items() if _fits(found, config, state)]
    return sorted(fit, key=lambda name: (len(name), name))  # the plain ones first


def _fits(found: Architecture, config: dict[str, Any], state: Mapping[str, Tensor]) -> bool:
    vision = config["vision_cfg"]
    if config["embed_dim"] != found.embedding_dim or (found.kind == "timm") != ("timm_model_name" in vision):
        return False
    if found.kind == "timm":
        return _same_names(vision["timm_model_name"], state)
    layers = vision.get("layers", 12)
    same = vision.get("image_size", 224) == found.image_size and vision.get("width", 768) == found.width
    if found.kind == "resnet":
        return same and isinstance(layers, list) and tuple(layers) == found.layers
    return same and layers == found.layers and vision.get("patch_size", 16) == found.patch_size


def _same_names(timm_name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a trunk of timm has the tensors of these names and shapes."""
    import timm
    import torch

    family = "stages" if any(name.startswith("trunk.stages.") for name in state) else "blocks"
    if ("vit" in timm_name) != (family == "blocks"):
        return False
    try:
        with torch.device("meta"):
            own = timm.create_model(timm_name, pretrained=False, num_classes=0).state_dict()
    except Exception:  # many kinds: not every model of timm can be built without memory
        return False
    trunk = {n.removeprefix("trunk."): v.shape for n, v in state.items() if n.startswith("trunk.")}
    return all(trunk.get(name) == value.shape for name, value in own.items() if "head" not in name)
