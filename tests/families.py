"""A small random model of every family that open_clip builds, by open_clip's and timm's own classes."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1}
_VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
_SIGLIP_TEXT = _TEXT | {
    "width": 32,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}


@dataclass(frozen=True)
class Family:
    """How a small model of a family is built.

    Attributes:
        config: open_clip's ``model_cfg``.
        preprocess: open_clip's ``preprocess_cfg``.
        refused: pattern of the line that refuses the family wherever it is loaded; empty where it is taken.
    """

    config: dict[str, Any]
    preprocess: dict[str, Any] = field(default_factory=lambda: dict(OPENAI))
    refused: str = ""


def _vit(text: dict[str, Any] | None = None, **vision: Any) -> dict[str, Any]:
    return {"embed_dim": 24, "vision_cfg": _VIT | vision, "text_cfg": _TEXT | (text or {})}


def _timm(name: str, size: int, *, pool: str, proj: str | None, text: dict[str, Any] | None = None) -> dict[str, Any]:
    vision = {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": pool, "timm_proj": proj}
    return {"embed_dim": 24, "vision_cfg": vision | {"image_size": size}, "text_cfg": text or _TEXT}


def _coca(**vision: Any) -> dict[str, Any]:
    config = _vit({"embed_cls": True, "output_tokens": True}, output_tokens=True, **vision)
    decoder = {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1, "attn_pooler_heads": 2}
    return config | {"multimodal_cfg": decoder, "custom_text": True}


FAMILIES: dict[str, Family] = {
    "vit": Family(_vit()),
    "vit-quickgelu": Family(_vit() | {"quick_gelu": True}),
    "vit-patch-dropout": Family(_vit(patch_dropout=0.5)),
    "vit-attentional-pool": Family(_vit(attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2)),
    "vit-layer-scale": Family(_vit(ls_init_value=0.5)),
    "vit-custom-blocks": Family(_vit(qk_norm=True, scale_attn=True, scale_fc=True)),
    "vit-fixed-positions": Family(_vit(pos_embed_type="sin_cos_2d")),
    "vit-eos": Family(_vit({"pool_type": "eos", "eos_id": 49407})),
    "vit-vector-scale": Family(_vit() | {"nonscalar_logit_scale": True}),
    "vit-not-square": Family(_vit(image_size=[32, 48]), refused=r"32 x 48 pixels.* square"),
    "clipa": Family(
        _vit({"pool_type": "last", "no_causal_mask": True}, no_ln_pre=True, pool_type="avg", final_ln_after_pool=True),
        OPENAI | {"interpolation": "bilinear", "resize_mode": "squash"},
    ),
    "custom-text": Family(_vit() | {"custom_text": True}),
    "resnet": Family(_vit({"width": 16}, layers=[1, 1, 1, 1], width=8, head_width=32, image_size=64)),
    "convnext": Family(_timm("small_convnext", 32, pool="", proj="linear")),
    "swin": Family(_timm("small_swin", 32, pool="", proj="linear")),
    "siglip": Family(
        _timm("small_siglip", 32, pool="map", proj="none", text=_SIGLIP_TEXT)
        | {"embed_dim": 32, "custom_text": True, "init_logit_bias": -10},
        HALVES | {"resize_mode": "squash"},
    ),
    "siglip2": Family(
        _timm("small_siglip", 32, pool="map", proj="none", text=_SIGLIP_TEXT | {"act_kwargs": {"approximate": "tanh"}})
        | {"embed_dim": 32, "custom_text": True, "init_logit_bias": -10, "nonscalar_logit_scale": True},
        HALVES | {"resize_mode": "squash"},
    ),
    "eva02": Family(_timm("small_eva02", 32, pool="token", proj=None) | {"custom_text": True}),
    "coca": Family(_coca(attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2)),
    "coca-class-token": Family(_coca()),
    "mobileclip": Family(
        _timm("small_fastvit", 64, pool="avg", proj=None) | {"custom_text": True},
        {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear"},
    ),
    "vitamin": Family(_timm("small_vitamin", 32, pool="", proj="linear") | {"custom_text": True}),
    "perception-encoder": Family(
        _timm("small_perception_encoder", 32, pool="map", proj=None) | {"custom_text": True},
        HALVES | {"resize_mode": "squash", "interpolation": "bilinear"},
    ),
}
TIMM_TOWERS = ("small_dinov2", "small_dinov3")
"""Names, behind ``timm/``, of towers without a text tower."""


def register_small_towers() -> None:
    """Let timm know small versions of the towers that open_clip's families are made of; open_clip takes only names."""
    import timm

    if timm.is_model("small_siglip"):
        return
    import tests.small_towers

    assert tests.small_towers is not None and timm.is_model("small_siglip")


def build(name: str) -> Any:
    """open_clip's model of a family, random and without zeros, in evaluation mode."""
    import open_clip

    register_small_towers()
    config = copy.deepcopy(FAMILIES[name].config)
    kind: Any = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CLIP
    if config.pop("custom_text", False) and kind is open_clip.CLIP:
        kind = open_clip.CustomTextCLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(**config)
        for label, value in model.named_parameters():
            if label not in ("logit_scale", "logit_bias") and value.requires_grad and not value.any():
                value.data.normal_(std=0.05)  # zero as built, so that it would hide what passes it
    return model.eval()


def write_family(name: str, folder: Path, *, dtype: torch.dtype | None = None) -> str:
    """Write a hub folder of a family, and return its name for open_clip.

    Args:
        name: of the family.
        folder: to be made.
        dtype: of the stored weights; None keeps single precision.
    """
    from safetensors.torch import save_file

    state = {
        k: v.detach().to(dtype or v.dtype) if v.is_floating_point() else v for k, v in build(name).state_dict().items()
    }
    folder.mkdir(parents=True)
    save_file({k: v.contiguous().clone() for k, v in state.items()}, folder / "open_clip_model.safetensors")
    said = {"model_cfg": FAMILIES[name].config, "preprocess_cfg": FAMILIES[name].preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    return f"local-dir:{folder}"


def write_timm_tower(name: str, file: Path) -> str:
    """Write the random weights of a tower of timm to a file, and return its name for ``model.name``."""
    import timm
    from safetensors.torch import save_file

    register_small_towers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=0)
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, file)
    return f"timm/{name}"
