"""Encoders and pictures that a command line names: a checkpoint or a model, perhaps defended, and image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.files import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from modules.encoders.base import ImageEncoder
    from modules.encoders.clip import CLIP


@dataclass(frozen=True)
class Opened:
    """An encoder to look through.

    Attributes:
        name: for tables and pages.
        clip: the model.
        encoder: its image tower, frozen and defended where that was asked for.
        base: the name and tag of the model it was fine-tuned from; empty for a model that was named.
    """

    name: str
    clip: CLIP
    encoder: ImageEncoder
    base: tuple[str, ...] = ()


def open_encoder(
    source: str,
    *,
    model: str | None = None,
    pretrained: str | None = None,
    image_size: int | None = None,
    defense: str = "",
) -> Opened:
    """The encoder of a checkpoint's file or a model's name.

    Args:
        source: file, folder, or name.
        model: base of a checkpoint that does not say it.
        pretrained: tag of the base's weights.
        image_size: H = W, where it should differ from the checkpoint's or the model's own.
        defense: as ``defended``; none where it is empty.

    Raises:
        ValueError: it cannot be loaded or defended; one line.
    """
    from eval.plan import device_of
    from launch.exchange.subject import Wanted, exported

    found = exported(source, Wanted(model, pretrained, image_size))
    clip = found.clip.to(device_of("auto"))
    name = str(found.metadata.get("encoder") or (Path(source).stem if Path(source).exists() else source))
    base = () if not Path(source).is_file() else (clip.name, clip.pretrained)
    if not defense:
        return Opened(name, clip, clip.image, base)
    node, encoder = defended(clip, defense)
    return Opened(f"{name} + {node}", clip, encoder, base)


def defended(clip: CLIP, said: str) -> tuple[str, ImageEncoder]:
    """A defence's name, and the image tower behind it.

    Args:
        clip: the model; its text tower says the blank prompt that some defences need.
        said: a name, or ``{name: ttc, steps: 2}``.

    Raises:
        ConfigError: no such defence or setting, or it needs more than an encoder.
    """
    from configs.families import DEFENSES

    node = _node(said)
    faults = DEFENSES.faults(node)
    if faults:
        raise ConfigError("\n".join(faults))
    needs = DEFENSES.needs(node)
    offered: dict[str, Any] = {"encoder": clip.image}
    if clip.text is not None and {"blank_embedding", "blank_tokens"} & set(needs):
        from eval.texts import blank_prompt
        from modules.zero_shot.head import BLANK_PROMPT

        offered["blank_embedding"], offered["blank_tokens"] = blank_prompt(clip.text, BLANK_PROMPT)
    defense = DEFENSES.build(node, **offered)
    return str(node["name"]), defense.to(next(clip.image.parameters()).device).freeze()


def _node(said: str) -> dict[str, Any]:
    if not said.lstrip().startswith("{"):
        return {"name": said}
    from configs.overrides import parse_overrides

    try:
        node = parse_overrides("scorecard", {}, [f"defense={said}"])[0][1]
    except ConfigError:
        node = None
    if not isinstance(node, dict) or "name" not in node:
        raise ConfigError(f"--defense {said} is no defence; say a name, or {{name: ttc, steps: 2}}")
    return node


def picture(path: Path, clip: CLIP) -> Tensor:
    """[3, H, W] pixels in [0, 1] of an image file of any size and mode, as the model prepares them.

    Raises:
        ConfigError: the file cannot be read or is no image.
    """
    from data.transforms import DecodeError, decode_image
    from eval.framing import framing_of

    try:
        x = framing_of(clip.image).pixels(decode_image(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    return x.to(next(clip.image.parameters()).device)


def preparation(clip: CLIP) -> str:
    """In words, what is done to an image before the encoder looks at it."""
    from eval.framing import framing_of

    framing = framing_of(clip.image)
    size = framing.size
    framed = {
        "shortest": f"shorter side scaled to {size}, centre {size} x {size} cut out",
        "longest": f"longer side scaled to {size}, the rest filled with black",
        "squash": f"scaled to {size} x {size}",
    }[framing.mode]
    return f"converted to RGB, {framed} ({framing.interpolation})"


def numbered(names: Sequence[str]) -> list[str]:
    """The names, those that come again with a number behind."""
    seen: dict[str, int] = {}
    told = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        told.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return told
