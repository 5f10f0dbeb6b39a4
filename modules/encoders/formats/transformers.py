"""A CLIP in the names of the transformers library (LEAF's files), image and text tower, into open_clip's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from modules.encoders.formats.base import Format, Towers, tensors_of, unwrapped

_MARK = "vision_model.embeddings.patch_embedding.weight"
_BLOCK = r"encoder\.layers\.(\d+)\."
_TO = r"transformer.resblocks.\g<1>."
_BLOCKS = {
    _BLOCK + r"layer_norm([12])\.(weight|bias)": _TO + r"ln_\g<2>.\g<3>",
    _BLOCK + r"self_attn\.out_proj\.(weight|bias)": _TO + r"attn.out_proj.\g<2>",
    _BLOCK + r"mlp\.fc1\.(weight|bias)": _TO + r"mlp.c_fc.\g<2>",
    _BLOCK + r"mlp\.fc2\.(weight|bias)": _TO + r"mlp.c_proj.\g<2>",
}
VISION = {
    r"embeddings\.class_embedding": "class_embedding",
    r"embeddings\.patch_embedding\.weight": "conv1.weight",
    r"embeddings\.position_embedding\.weight": "positional_embedding",
    r"pre_layrnorm\.(weight|bias)": r"ln_pre.\g<1>",  # the library's own spelling
    r"post_layernorm\.(weight|bias)": r"ln_post.\g<1>",
    **_BLOCKS,
}
TEXT = {
    r"embeddings\.token_embedding\.weight": "token_embedding.weight",
    r"embeddings\.position_embedding\.weight": "positional_embedding",
    r"final_layer_norm\.(weight|bias)": r"ln_final.\g<1>",
    **_BLOCKS,
}
_KNOWN = ("vision_model.", "text_model.", "visual_projection.weight", "text_projection.weight", "logit_scale")
_QKV = re.compile(_BLOCK + r"self_attn\.([qkv])_proj\.(weight|bias)")


def _tower(state: Mapping[str, Tensor], prefix: str, table: Mapping[str, str]) -> dict[str, Tensor]:
    """One tower's tensors; queries, keys and values become one matrix.  Unknown names stay, and are unexpected."""
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for full, value in state.items():
        if not full.startswith(prefix) or full.endswith("position_ids"):
            continue
        name = full.removeprefix(prefix)
        if part := _QKV.fullmatch(name):
            target = f"transformer.resblocks.{part[1]}.attn.in_proj_{part[3]}"
            parts.setdefault(target, {})[part[2]] = value
            continue
        pattern = next((pattern for pattern in table if re.fullmatch(pattern, name)), None)
        found[full if pattern is None else re.sub(pattern, table[pattern], name)] = value
    for target, three in parts.items():
        if three.keys() == {"q", "k", "v"}:
            found[target] = torch.cat([three["q"], three["k"], three["v"]])
    return found


def _table(content: Mapping[str, Any]) -> dict[str, Tensor]:
    state = tensors_of(unwrapped(content))
    before = next((name.removesuffix(_MARK) for name in state if name.endswith(_MARK)), "")
    return {name.removeprefix(before): value for name, value in state.items() if name.startswith(before)}


def _recognises(content: Mapping[str, Any]) -> bool:
    return any(name.endswith(_MARK) for name in tensors_of(unwrapped(content)))


def _towers(content: Mapping[str, Any]) -> Towers:
    state = _table(content)
    if "visual_projection.weight" not in state:
        raise ValueError("it has no visual_projection: a vision model without CLIP's projection gives no embeddings")
    visual = _tower(state, "vision_model.", VISION)
    visual["proj"] = state["visual_projection.weight"].T.contiguous()
    visual |= {name: value for name, value in state.items() if not name.startswith(_KNOWN)}  # and found unexpected
    if "text_projection.weight" not in state:
        return Towers(visual)
    text = _tower(state, "text_model.", TEXT)
    text["text_projection"] = state["text_projection.weight"].T.contiguous()
    if "logit_scale" in state:
        text["logit_scale"] = state["logit_scale"]
    return Towers(visual, text)


TRANSFORMERS = Format("transformers", "a CLIP of the transformers library (LEAF)", _recognises, _towers)
