"""The model that is exported: its towers, what it was trained from, and how it is built in open_clip."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.files import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from modules.encoders.clip import CLIP

HUB_CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class Wanted:
    """What was said about the model on the command line.

    Attributes:
        model: name of the base; None where the file says it.
        pretrained: tag of the base's weights.
        image_size: H = W, where it should differ from the base's own.
        unrelated: as ``model.unrelated``.
    """

    model: str | None = None
    pretrained: str | None = None
    image_size: int | None = None
    unrelated: bool = False


@dataclass(frozen=True)
class Exported:
    """A model about to be written.

    Attributes:
        clip: with its weights.
        source: name or path that it came from.
        metadata: what its file says.
        fingerprint: of its image tower.
    """

    clip: CLIP
    source: str
    metadata: dict[str, Any]
    fingerprint: str


def exported(source: str, wanted: Wanted) -> Exported:
    """The model in a file or folder, or of a name.

    Raises:
        ConfigError: no such file, or it does not say which model it belongs to.
        ValueError: what loading it refuses.
    """
    from configs.schema import ModelConfig
    from eval.evaluate import load_subject
    from modules.encoders.fingerprint import fingerprint

    path = Path(source)
    name, pretrained = wanted.model, wanted.pretrained or ""
    checkpoint: str | None = source
    if not path.exists():
        if path.suffix and ":" not in source and not source.startswith("timm/"):
            raise ConfigError(f"no checkpoint at {source}")
        name, checkpoint = wanted.model or source, None
    elif (path / HUB_CONFIG).is_file() and name is None:
        name, checkpoint = f"local-dir:{path.resolve()}", None
    elif name is None:
        base = _base_of(path)
        name, pretrained = base.get("name"), wanted.pretrained or base.get("pretrained", "")
    if not name:
        raise ConfigError(f"{source} does not say which model it belongs to; say --model NAME --pretrained TAG")
    config = ModelConfig(name, pretrained, checkpoint, wanted.image_size, wanted.unrelated)
    clip, metadata = load_subject(config)
    clip.image.freeze()
    return Exported(clip, source, metadata, fingerprint(clip.image))


def _base_of(path: Path) -> dict[str, str]:
    from modules.weights_file import read_content

    return {} if path.is_dir() else dict(read_content(path)[1].get("base", {}))


def whole_state(clip: CLIP) -> dict[str, Tensor]:
    """Every tensor of a CLIP, named as in open_clip.

    Raises:
        ValueError: it has no text tower.
    """
    if clip.text is None:
        raise ValueError(f"{clip.name} has no text tower and is no model of open_clip; export it --to visual-pt")
    state = {f"visual.{name}": value for name, value in clip.image.visual.state_dict().items()}
    state |= clip.text.model.state_dict()
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def hub_config(clip: CLIP) -> dict[str, Any]:
    """What ``open_clip_config.json`` says: the architecture, activation included, and the preprocessing."""
    import open_clip

    from modules.encoders.tiny import ARCHITECTURE

    model = copy.deepcopy(ARCHITECTURE if clip.name == "tiny" else open_clip.get_model_config(clip.name))
    assert model is not None, "a loaded model has a config"
    tag = (
        {}
        if ":" in clip.name or clip.name == "tiny"
        else open_clip.get_pretrained_cfg(clip.name, clip.pretrained) or {}
    )
    if tag.get("quick_gelu"):
        model["quick_gelu"] = True
    model["vision_cfg"]["image_size"] = clip.image.image_size
    own: Any = clip.image.visual.preprocess_cfg
    pixels = {
        "mean": own["mean"],  # not the buffer's, which single precision has rounded
        "std": own["std"],
        "interpolation": clip.image.interpolation,
        "resize_mode": clip.image.resize_mode,
    }
    return {"model_cfg": model, "preprocess_cfg": pixels}
