"""The embedded model: open_clip's architecture at 32 pixels, pretrained on handwritten digits.

It makes the whole main job run anywhere in minutes.  Its numbers do not transfer to CLIP.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modules import noise
from modules.encoders.clip import CLIP, TINY, assemble

WEIGHTS = Path(__file__).with_name("tiny.safetensors")
ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
}
MEAN, STD = (0.35, 0.35, 0.35), (0.28, 0.28, 0.28)
TOKEN_TABLE = "token_embedding.weight"  # random, frozen, and rebuilt from its seed instead of shipped


def token_table() -> Tensor:
    """[49408, 128] the frozen random embeddings of the tokens."""
    text = ARCHITECTURE["text_cfg"]
    rows = torch.arange(text["vocab_size"])
    with noise.samples(rows, seed=0):
        return 0.02 * noise.normal(torch.zeros(len(rows), 1), "tiny/tokens", (text["width"],))


def new_tiny(seed: int = 0) -> Any:
    """open_clip's model with this architecture and random weights; torch's global generator is not moved."""
    import open_clip
    from open_clip.model import CLIP as OpenCLIP  # noqa: N811

    assert open_clip is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = OpenCLIP(**ARCHITECTURE)
    model.token_embedding.weight.data.copy_(token_table())
    model.token_embedding.requires_grad_(False)
    return model


def assemble_tiny(model: Any, *, image_size: int | None = None) -> CLIP:
    """Take the parts out of a tiny model, as out of every other one."""
    from open_clip.model import set_model_preprocess_cfg
    from open_clip.tokenizer import SimpleTokenizer

    size = ARCHITECTURE["vision_cfg"]["image_size"]
    set_model_preprocess_cfg(model, {"size": size, "mean": MEAN, "std": STD})
    context = ARCHITECTURE["text_cfg"]["context_length"]
    return assemble(model, TINY, "", tokenizer=partial(SimpleTokenizer, context_length=context), image_size=image_size)


def load_tiny(*, weights: bool = True, path: Path = WEIGHTS, image_size: int | None = None) -> CLIP:
    """Load the embedded model.

    Args:
        weights: False leaves it random.
        path: another file that ``save_tiny`` wrote.
        image_size: H = W, where it should differ from its 32 pixels.

    Raises:
        ValueError: the file is missing or is not such a file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    model = new_tiny()
    if weights:
        try:
            state = {name: value.float() for name, value in load_file(path).items()}
            missing, unexpected = model.load_state_dict(state, strict=False)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ValueError(f"{path} is not a tiny model: {str(error).splitlines()[0]}") from error
        if unexpected or set(missing) != {TOKEN_TABLE}:
            raise ValueError(f"{path} is not a tiny model: its tensors are not this architecture's")
        model.logit_scale.data.clamp_(max=math.log(100))  # as its training does
    return assemble_tiny(model.eval(), image_size=image_size)


def save_tiny(model: Any, path: Path, **metadata: Any) -> Path:
    """Write an open_clip model of this architecture in half precision, without its token table, all or nothing."""
    from safetensors.torch import save_file

    state = {
        name: value.detach().half().contiguous() for name, value in model.state_dict().items() if name != TOKEN_TABLE
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(state, temporary, metadata={"robustclip": json.dumps({"kind": "tiny", **metadata})})
    temporary.replace(path)
    return path
