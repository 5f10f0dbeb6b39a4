"""The settings of a network, read off the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from modules.prior.layouts import Layout

CONTEXT = 77  # text states of CLIP; older releases, which masked the padding away, stored no number
_STACK = "causal_transformer."


def network_settings(tensors: Mapping[str, Tensor], layout: Layout, *, text_states: bool = True) -> dict[str, Any]:
    """Keyword arguments of ``PriorNetwork``; dropouts stay at zero.

    Args:
        tensors: under today's names, from the network on.
        layout: what the release computed with them.
        text_states: whether the network was trained on the states of text tokens; only needed where padding is masked.

    Raises:
        ValueError: a tensor that shows a size is missing or of another shape.
    """
    try:
        return _settings(tensors, layout, text_states)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"not the tensors of a prior: {error}; give a DiffusionPrior's checkpoint") from error


def _settings(tensors: Mapping[str, Tensor], layout: Layout, text_states: bool) -> dict[str, Any]:
    def size(name: str, axis: int) -> int:
        return tensors[name].shape[axis]

    def multiple(name: str, axis: int, of: int) -> int:
        count, rest = divmod(size(name, axis), of)
        if rest or not count:
            raise ValueError(f"{name} has {size(name, axis)} rows, no multiple of {of}")
        return count

    dim = size("learned_query", 0)
    first = f"{_STACK}layers.0."
    depth = len({name.split(".")[2] for name in tensors if name.startswith(f"{_STACK}layers.")})
    table = "to_time_embeds.0.weight" in tensors  # rows of steps; otherwise a network reads sines of them
    time = "to_time_embeds.0.weight" if table else "to_time_embeds.0.1.net.2.weight"
    states = size("null_text_encodings", 1) if "null_text_encodings" in tensors else CONTEXT * text_states
    many = {kind: f"to_{kind}_embeds.0.weight" for kind in ("image", "text")}
    return {
        "dim": dim,
        "depth": depth,
        "heads": size(f"{_STACK}rel_pos_bias.relative_attention_bias.weight", 1),
        "dim_head": size(f"{first}0.null_kv", 1),
        "max_text_len": states,
        "num_timesteps": size(time, 0) if table else None,
        "num_time_embeds": multiple(time, 1 if table else 0, dim),
        "num_image_embeds": multiple(many["image"], 0, dim) if many["image"] in tensors else 1,
        "num_text_embeds": multiple(many["text"], 0, dim) if many["text"] in tensors else 1,
        "ff_mult": multiple(f"{first}1.5.weight", 1, dim),
        "normformer": f"{first}1.3.g" in tensors,
        "rotary": f"{first}0.rotary_emb.freqs" in tensors,
        "norm_in": f"{_STACK}init_norm.g" in tensors,
        "norm_out": f"{_STACK}norm.g" in tensors,
        "final_proj": f"{_STACK}project_out.weight" in tensors,
        "attention": layout.attention,
        "nulls": layout.nulls,
        "stable_norm": layout.stable_norm,
    }
