"""A small CLIP in a hub folder, and its fine-tuned tower in the layouts of others, written by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PIXELS = {"mean": [0.4, 0.45, 0.5], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "resize_mode": "shortest"}


def new_clip(seed: int = 0, config: dict[str, Any] | None = None) -> Any:
    """open_clip's model with random weights."""
    import open_clip
    from open_clip.model import CLIP

    assert open_clip is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(**json.loads(json.dumps(config or CONFIG))).eval()


def write_hub(folder: Path, model: Any, config: dict[str, Any] | None = None, pixels: Any = None) -> str:
    """A hub folder; returns the model's name."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    text = json.dumps({"model_cfg": config or CONFIG, "preprocess_cfg": pixels or PIXELS})
    (folder / "open_clip_config.json").write_text(text)
    return f"local-dir:{folder}"


def moved(state: dict[str, Tensor], by: float = 0.05, seed: int = 3) -> dict[str, Tensor]:
    """Weights as fine-tuning leaves them: near where they were."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, value in state.items():
        noise = torch.randn(value.shape, generator=generator)
        found[name] = value + by * value.std(correction=0) * noise if value.is_floating_point() else value
    return found


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A whole CLIP's tensors under the names of the transformers library; slow and obvious."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        prefix, rest = ("vision_model.", name[7:]) if name.startswith("visual.") else ("text_model.", name)
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", rest)
        if rest in ("proj", "text_projection"):
            found[("visual" if rest == "proj" else "text") + "_projection.weight"] = value.T.contiguous()
        elif rest == "logit_scale":
            found[rest] = value
        elif block and block[2].startswith("attn.in_proj_"):
            kind = block[2].rpartition("_")[2]
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                found[f"{prefix}encoder.layers.{block[1]}.self_attn.{letter}_proj.{kind}"] = part.contiguous()
        elif block:
            inner = block[2].replace("attn.out_proj", "self_attn.out_proj").replace("ln_", "layer_norm")
            inner = inner.replace("c_fc", "fc1").replace("c_proj", "fc2")
            found[f"{prefix}encoder.layers.{block[1]}.{inner}"] = value
        else:
            plain = {
                "class_embedding": "embeddings.class_embedding",
                "positional_embedding": "embeddings.position_embedding.weight",
                "token_embedding.weight": "embeddings.token_embedding.weight",
                "conv1.weight": "embeddings.patch_embedding.weight",
            }
            other = rest.replace("ln_pre", "pre_layrnorm").replace("ln_post", "post_layernorm")
            found[prefix + plain.get(rest, other.replace("ln_final", "final_layer_norm"))] = value
    found["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    return found
