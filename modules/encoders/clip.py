"""CLIP models over open_clip: the image tower with its normalisation inside, the text tower, the temperature."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.encoders.base import ImageEncoder
from modules.encoders.quick import quicken

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
    ) -> None:
        super().__init__()
        self.visual = visual
        quicken(visual)
        self.image_size, self.embedding_dim = image_size, embedding_dim
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D], not normalised, of x [B, 3, H, W] in [0, 1].

        Raises:
            ValueError: x is not a batch of RGB images.
        """
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"an encoder takes images [B, 3, H, W], not {list(x.shape)}")
        if x.shape[-1] != self.image_size or x.shape[-2] != self.image_size:
            size = (self.image_size, self.image_size)
            x = F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)
        z = self.visual((x - self.mean) / self.std)
        assert z.shape == (len(x), self.embedding_dim), "the tower's output is not [B, D]"
        return z


class TextEncoder(nn.Module):
    """An open_clip text tower that takes strings; always frozen.

    Args:
        model: open_clip's model; its image tower is not used.
        tokenizer: strings -> token ids [N, L].
    """

    def __init__(self, model: nn.Module, tokenizer: Any, /) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids [N, L] on the tower's device."""
        device = next(self.model.parameters()).device
        return self.tokenizer(list(texts)).to(device)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embeddings [N, D], L2-normalised."""
        z: Tensor = self.model.encode_text(self.tokenize(texts))  # pyright: ignore[reportCallIssue]
        return F.normalize(z.float(), dim=-1)

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings [N, D], L2-normalised, and token states [N, L, D_text], of one pass.

        States are those after the final LayerNorm, zero behind each text's end token (DALL-E 2's prior).
        """
        caught: list[Tensor] = []
        norm = self.model.ln_final if hasattr(self.model, "ln_final") else self.model.text.ln_final  # pyright: ignore
        hook = norm.register_forward_hook(lambda _module, _inputs, output: caught.append(output))  # pyright: ignore
        try:
            ids = self.tokenize(texts)
            z: Tensor = self.model.encode_text(ids)  # pyright: ignore[reportCallIssue]
        finally:
            hook.remove()
        end = ids.argmax(dim=1)  # the end token has the largest id
        keep = torch.arange(ids.shape[1], device=ids.device)[None] <= end[:, None]
        return F.normalize(z.float(), dim=-1), caught[0].float() * keep[..., None]

    def token_states(self, texts: Sequence[str]) -> Tensor:
        """States [N, L, D_text] of the text tokens, as in ``read``."""
        return self.read(texts)[1]


@dataclass
class CLIP:
    """A loaded model, in its parts.

    Attributes:
        name: as open_clip knows it, or ``tiny``.
        pretrained: the weights' tag; empty where the name says it all.
        image: the image tower.
        text: the text tower; None where only shapes were asked for, or there is none (``timm/…``).
        logit_scale: factor on cosines that gives logits (already exponentiated).
    """

    name: str
    pretrained: str
    image: CLIPEncoder
    text: TextEncoder | None
    logit_scale: float

    def to(self, device: torch.device | str) -> CLIP:
        """Itself, moved."""
        self.image.to(device)
        if self.text is not None:
            self.text.to(device)
        return self


def load_clip(name: str, pretrained: str = "", *, image_size: int | None = None, weights: bool = True) -> CLIP:
    """A CLIP of a ``name, pretrained`` pair of open_clip, ``hf-hub:…``, ``local-dir:…``, ``timm/…``, or ``tiny``.

    The activation (GELU or QuickGELU) follows the weights' tag: the wrong one loads silently and computes nonsense.

    Args:
        name: model name.
        pretrained: tag of the weights.
        image_size: H = W, where it should differ from the model's own.
        weights: False builds the image tower only, with no weights and no memory where the architecture allows.

    Raises:
        ValueError: unknown name or tag, or the weights cannot be had.
    """
    if name == TINY:
        from modules.encoders.tiny import load_tiny

        return load_tiny(weights=weights)
    if name.startswith("timm/"):
        from modules.encoders.timm_tower import load_timm

        return load_timm(name, pretrained, image_size=image_size, weights=weights)
    import open_clip

    _check_name(name, pretrained, weights=weights)
    tag = open_clip.get_pretrained_cfg(name, pretrained) or {}
    model = _quietly_create(
        name,
        pretrained=(pretrained or None) if weights else None,
        force_quick_gelu=bool(tag.get("quick_gelu")),
        force_image_size=image_size,
        force_preprocess_cfg={k: tag[k] for k in ("mean", "std") if k in tag},
        load_weights=weights,
        require_pretrained=weights,  # else open_clip goes on with random weights where a folder holds none
        device="cpu" if weights else "meta",
    )
    text = TextEncoder(model, open_clip.get_tokenizer(name)) if weights else None
    return _assemble(name, pretrained, model, text, model.logit_scale)


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
    """open_clip's model, without its log lines and without moving torch's global generator."""
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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot load model {name!r}: {reason}") from error
    finally:
        for log, level in levels.items():
            log.setLevel(level)


def _assemble(name: str, pretrained: str, model: Any, text: TextEncoder | None, log_scale: Tensor) -> CLIP:
    """The parts of an open_clip model; takes the image tower out of it."""
    import open_clip

    settings = open_clip.get_model_preprocess_cfg(model)
    size = settings["size"]
    visual = model.visual
    if text is not None:
        del model.visual
    encoder = CLIPEncoder(
        visual,
        mean=settings["mean"],
        std=settings["std"],
        image_size=size if isinstance(size, int) else size[0],
        embedding_dim=visual.output_dim if hasattr(visual, "output_dim") else _probe_dim(visual, size),
    )
    scale = 100.0 if log_scale.is_meta else float(log_scale.detach().exp())
    return CLIP(name, pretrained, encoder, text, scale)


def _probe_dim(visual: nn.Module, size: int | tuple[int, int]) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    device = next(visual.parameters()).device
    with torch.no_grad():
        return visual.eval()(torch.zeros(1, 3, height, width, device=device)).shape[1]
