"""CLIP models over open_clip: the image tower with its normalisation inside, the text tower, the temperature."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.choices import check_choice
from modules.encoders.base import ImageEncoder
from modules.encoders.positions import resize_positions
from modules.encoders.quick import quicken
from modules.encoders.text import TextEncoder

Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "longest", "squash"]
TINY = "tiny"
"""Name of the embedded model: open_clip's architecture at 32 pixels, trained on handwritten digits."""


class CLIPEncoder(ImageEncoder):
    """An open_clip image tower that takes [0, 1] pixels.

    Mean, standard deviation and resolution are the model's own.  Images of another size are resized inside
    (bicubic, antialiased, differentiable), so that an attack can live at their native size.

    Args:
        visual: open_clip's image tower, projection included.
        mean: per channel, in [0, 1] pixels.
        std: per channel, in [0, 1] pixels.
        image_size: H = W that the tower takes.
        embedding_dim: D.
        resize_mode: how open_clip brings an image file to that size: ``shortest`` (and crop), ``longest`` (and pad), or
            ``squash``.
        interpolation: filter of that resize, ``bicubic`` or ``bilinear``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        visual: nn.Module,
        /,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: int,
        embedding_dim: int,
        resize_mode: ResizeMode = "shortest",
        interpolation: Interpolation = "bicubic",
    ) -> None:
        check_choice("resize_mode", resize_mode, ResizeMode)
        check_choice("interpolation", interpolation, Interpolation)
        super().__init__()
        self.visual = visual
        quicken(visual)
        self.image_size, self.embedding_dim = image_size, embedding_dim
        self.resize_mode, self.interpolation = resize_mode, interpolation
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D], not normalised, of x [B, 3, H, W] in [0, 1].

        Raises:
            ValueError: x is not a batch of RGB images, or the tower gives no embedding per image.
        """
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"an encoder takes images [B, 3, H, W], not {list(x.shape)}")
        if x.shape[-1] != self.image_size or x.shape[-2] != self.image_size:
            size = (self.image_size, self.image_size)
            x = F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)
        z = embedding_of(self.visual((x - self.mean) / self.std))
        if z.shape != (len(x), self.embedding_dim):
            raise ValueError(
                f"the image tower gives {list(z.shape)}, not one embedding of {self.embedding_dim} per image"
            )
        return z


def embedding_of(output: Any) -> Tensor:
    """Return the embedding of a tower's output; CoCa's towers return a pair, embedding and tokens."""
    return output[0] if isinstance(output, tuple) else output


@dataclass
class CLIP:
    """A loaded model, in its parts.

    Attributes:
        name: as open_clip knows it, or ``tiny``.
        pretrained: the weights' tag; empty where the name says it all.
        image: the image tower.
        text: the text tower; None where only shapes were asked for, or there is none (``timm/…``).
        logit_scale: factor on cosines that gives logits (already exponentiated).
        logit_bias: added to every logit (SigLIP's sigmoid loss learns one); it changes no ranking.
    """

    name: str
    pretrained: str
    image: CLIPEncoder
    text: TextEncoder | None
    logit_scale: float
    logit_bias: float = 0.0

    def to(self, device: torch.device | str) -> CLIP:
        """Itself, moved."""
        self.image.to(device)
        if self.text is not None:
            self.text.to(device)
        return self


def load_clip(name: str, pretrained: str = "", *, image_size: int | None = None, weights: bool = True) -> CLIP:
    """Load a CLIP: a ``name, pretrained`` pair of open_clip, ``hf-hub:…``, ``local-dir:…``, ``timm/…``, or ``tiny``.

    The activation (GELU or QuickGELU) follows the weights' tag: the wrong one loads silently and computes nonsense.

    Args:
        name: model name.
        pretrained: tag of the weights.
        image_size: H = W, where it should differ from the model's own; positions are interpolated.
        weights: False builds the image tower only, with no weights and no memory where the architecture allows.

    Raises:
        ValueError: unknown name or tag, the weights cannot be had, or the model takes no square images.
    """
    if name.startswith("timm/"):
        from modules.encoders.timm_tower import load_timm

        return load_timm(name, pretrained, image_size=image_size, weights=weights)
    if name == TINY:
        from modules.encoders.tiny import load_tiny

        return load_tiny(image_size=image_size, weights=weights)
    import open_clip

    _check_name(name, pretrained, weights=weights)
    tag = open_clip.get_pretrained_cfg(name, pretrained) or {}
    model = _quietly_create(
        name,
        pretrained=(pretrained or None) if weights else None,
        force_quick_gelu=bool(tag.get("quick_gelu")),
        force_preprocess_cfg={k: tag[k] for k in ("mean", "std", "interpolation", "resize_mode") if k in tag},
        load_weights=weights,
        require_pretrained=weights,  # else open_clip goes on with random weights where a folder holds none
        device="cpu" if weights else "meta",
    )
    return assemble(model, name, pretrained, tokenizer=partial(_tokenizer_of, name), image_size=image_size)


def _check_name(name: str, pretrained: str, *, weights: bool) -> None:
    import open_clip

    if ":" in name:
        return
    if name not in open_clip.list_models():
        from difflib import get_close_matches

        near = get_close_matches(name, [TINY, *open_clip.list_models()], n=4, cutoff=0.3)
        raise ValueError(f"unknown model {name!r}; near it: {', '.join(near) or 'nothing'}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags and (pretrained or weights):
        said = repr(pretrained) if pretrained else "none"
        raise ValueError(f"model {name!r} has no weights {said}; choose one of: {', '.join(tags)}")


def _quietly_create(name: str, **settings: Any) -> Any:
    """Return open_clip's model, without its log lines and without moving torch's global generator."""
    import open_clip

    on_meta = settings["device"] == "meta"
    levels = {log: log.level for log in (logging.root, logging.getLogger("huggingface_hub"))}
    for log in levels:
        log.setLevel(logging.CRITICAL)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            try:
                with torch.device("meta") if on_meta else nullcontext():
                    return open_clip.create_model(name, **settings)
            except NotImplementedError:  # some towers read values while they are built
                return open_clip.create_model(name, **{**settings, "device": "cpu"})
    except Exception as error:  # many kinds: no network, a damaged folder, a file that could run code
        raise ValueError(f"cannot load model {name!r}: {_reason(error)}") from error
    finally:
        for log, level in levels.items():
            log.setLevel(level)


def _reason(error: Exception) -> str:
    """Return what an error says, in one line; torch lists the tensors that differ on lines below the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]


def _tokenizer_of(name: str) -> Any:
    """Return the tokenizer of a model.

    Raises:
        ValueError: it needs the transformers library, or files that are not here and cannot be fetched.
    """
    import open_clip

    try:
        return open_clip.get_tokenizer(name)
    except ImportError as error:
        raise ValueError(
            f"the text tower of {name!r} needs transformers for its tokenizer: pip install 'robustclip[transformers]'"
        ) from error
    except Exception as error:  # many kinds: no network, no such file
        raise ValueError(
            f"cannot load the tokenizer of {name!r}: {_reason(error)}; it is fetched once and then found offline, or "
            "its files lie in the model's folder; without it the image tower still trains by objective.name=fare"
        ) from error


def assemble(
    model: Any, name: str, pretrained: str, *, tokenizer: Callable[[], Any], image_size: int | None = None
) -> CLIP:
    """Take the parts out of an open_clip model, of whatever family.

    Args:
        model: open_clip's model; its image tower is taken out of it.
        name: of the model.
        pretrained: tag of its weights.
        tokenizer: returns its tokenizer; called where a text is first read.
        image_size: H = W, where it should differ from the model's own.

    Raises:
        ValueError: the model takes no square images and none were asked for, or no others than its own.
    """
    import open_clip

    visual, settings = model.eval().visual, open_clip.get_model_preprocess_cfg(model)
    on_meta = model.logit_scale.is_meta or next(visual.parameters()).is_meta
    del model.visual  # before the text tower is frozen: in most families both are children of one module
    height, width = (settings["size"],) * 2 if isinstance(settings["size"], int) else settings["size"]
    if image_size is not None and (height, width) != (image_size, image_size):
        resize_positions(visual, image_size, name=name)
    if image_size is None and height != width:
        raise ValueError(
            f"model {name!r} takes images of {height} x {width} pixels, and only square ones are supported; "
            f"say model.image_size={max(height, width)} to interpolate its positions"
        )
    size = image_size or height
    per_channel = {k: [v] * 3 if isinstance(v := settings[k], float | int) else list(v) for k in ("mean", "std")}
    encoder = CLIPEncoder(
        visual,
        **per_channel,
        image_size=size,
        embedding_dim=visual.output_dim if hasattr(visual, "output_dim") else _probe_dim(visual, size),
        resize_mode=settings.get("resize_mode") or "shortest",
        interpolation="bilinear" if settings.get("interpolation") == "bilinear" else "bicubic",
    )
    if on_meta:
        return CLIP(name, pretrained, encoder, None, 100.0)
    return CLIP(name, pretrained, encoder, TextEncoder(model, tokenizer), *temperature_of(model))


def temperature_of(model: Any) -> tuple[float, float]:
    """Return the factor and the bias that make logits of an open_clip model's cosines."""
    bias = getattr(model, "logit_bias", None)
    return float(model.logit_scale.detach().float().exp()), 0.0 if bias is None else float(bias.detach())


def _probe_dim(visual: nn.Module, size: int) -> int:
    device = next(visual.parameters()).device
    training = visual.training
    with torch.no_grad():
        dim = embedding_of(visual.eval()(torch.zeros(1, 3, size, size, device=device))).shape[-1]
    visual.train(training)
    return dim
