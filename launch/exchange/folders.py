"""Models out: folders that open_clip loads, and files of an image tower alone."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.files import ConfigError
from data.folder_lock import locked_folder
from launch.exchange.subject import HUB_CONFIG, Exported, hub_config, whole_state

WEIGHTS = "open_clip_model.safetensors"
_ROUNDING = 1e-4  # of a pass in single precision, as a share of the embedding


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write to, which stands under its name only once everything is in it.

    Raises:
        ConfigError: there is something under that name.
    """
    if out.exists():
        raise ConfigError(f"{out} exists; name a new folder")
    with locked_folder(out, beside=True):
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        try:
            yield temporary
            temporary.chmod(0o755)
            for file in temporary.rglob("*"):
                file.chmod(0o755 if file.is_dir() else 0o644)
            temporary.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_open_clip(folder: Path, subject: Exported) -> None:
    """Weights and config of a whole CLIP, read back by open_clip itself.

    Raises:
        ValueError: it has no text tower, or open_clip reads something else from the folder.
    """
    from safetensors.torch import save_file

    state = whole_state(subject.clip)
    said = {name: value for name, value in subject.metadata.items() if name not in ("kind", "file")}
    told = {"format": "pt", "robustclip": json.dumps({**said, "kind": "clip"}, default=str)}
    save_file(state, folder / WEIGHTS, metadata=told)
    (folder / HUB_CONFIG).write_text(json.dumps(hub_config(subject.clip), indent=1), encoding="utf-8")
    text = subject.clip.text
    if text is not None and hasattr(text.tokenizer, "save_pretrained"):  # one of transformers, which needs its files
        text.tokenizer.save_pretrained(folder)
    _read_back(folder, subject)


def _read_back(folder: Path, subject: Exported) -> None:
    """Refuse a folder from which open_clip makes another encoder than the one that was written."""
    import torch

    from modules import noise
    from modules.encoders.clip import load_clip

    image = subject.clip.image
    device = next(image.parameters()).device
    again = load_clip(f"local-dir:{folder}").image.to(device)
    with torch.no_grad(), noise.samples(torch.arange(2), seed=0):
        x = noise.uniform(torch.zeros(2, 1), "export", (3, image.image_size, image.image_size)).to(device)
        z = image.encode_image(x)
        far = (again.freeze().encode_image(x) - z).norm() / z.norm()
    if not far < _ROUNDING or again.image_size != image.image_size:
        raise ValueError(f"open_clip reads another encoder from what was written of {subject.source}; nothing was kept")


def write_visual(out: Path, subject: Exported) -> None:
    """The image tower alone as a flat dictionary of ``torch.save``, named as in open_clip's ``visual``.

    Raises:
        ConfigError: there is something under that name.
    """
    import torch

    if out.exists():
        raise ConfigError(f"{out} exists; name a new file")
    if out.suffix not in (".pt", ".pth", ".bin"):
        raise ConfigError(f"{out} should end in .pt")
    out.parent.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in subject.clip.image.visual.state_dict().items()
    }
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    os.close(handle)
    try:
        torch.save(state, temporary)
        Path(temporary).chmod(0o644)
        Path(temporary).rename(out)
    finally:
        Path(temporary).unlink(missing_ok=True)
