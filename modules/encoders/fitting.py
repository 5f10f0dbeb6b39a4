"""Weights of a file into the model that they are said to belong to: strictly, and only where they can belong to it.

Shapes alone prove little: a tower of LAION's weights takes OpenAI's without a word, and computes nonsense with the
other activation.  Fine-tuning moves weights a little, so fine-tuned weights still point where their base's do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.encoders.clip import CLIP, temperature_of
from modules.encoders.formats import Facts, Weights

RELATED = 0.3
"""Median cosine of weight matrices with the base's, below which a tower was not fine-tuned from it."""

_SHOWN = 6


def differences(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What keeps a table of tensors from being loaded strictly, a tensor a text; empty where nothing does."""
    return sorted(
        [
            *(f"no {name}" for name in own.keys() - found.keys()),
            *(f"unexpected {name}" for name in found.keys() - own.keys()),
            *(
                f"{name} is {list(found[name].shape)} instead of {list(own[name].shape)}"
                for name in own.keys() & found.keys()
                if own[name].shape != found[name].shape
            ),
        ]
    )


def said_in_a_line(faults: list[str]) -> str:
    """How many tensors differ, and which."""
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    differ = "tensor differs" if len(faults) == 1 else "tensors differ"
    return f"{len(faults)} {differ}: {'; '.join(faults[:_SHOWN])}{more}"


def first_not_finite(state: Mapping[str, Tensor]) -> str:
    """Name of a tensor with a number that is not finite; empty where there is none."""
    return next((n for n, t in state.items() if t.is_floating_point() and not torch.isfinite(t).all()), "")


def kinship(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Median cosine between the weight matrices of two towers of the same shapes; NaN where there are none."""
    cosines = [
        F.cosine_similarity(own[name].detach().cpu().float().flatten(), found[name].detach().float().flatten(), dim=0)
        for name in own
        if own[name].dim() >= 2 and own[name].is_floating_point()
    ]
    return float(torch.stack(cosines).median()) if cosines else float("nan")


def uses_quick_gelu(module: nn.Module) -> bool | None:
    """Whether a tower computes with QuickGELU; None where it has neither that nor GELU."""
    kinds = {type(part).__name__ for part in module.modules()}
    return "QuickGELU" in kinds if kinds & {"QuickGELU", "GELU"} else None


def fit_weights(clip: CLIP, weights: Weights, *, unrelated: bool = False) -> dict[str, Any]:
    """Load weights into a CLIP, image tower and, of a whole CLIP, text tower and temperature; returns what was done.

    Args:
        clip: the base, with its own weights.
        weights: of the same architecture.
        unrelated: take an image tower that is not near the base's.

    Raises:
        ValueError: tensors are missing, unexpected, of another shape or not finite; the file names another activation
            or normalisation; the weights are the base's own, or not near them.  Nothing was loaded then.
    """
    path, visual, found = weights.path, clip.image.visual, weights.towers.visual
    base = f"{clip.name} {clip.pretrained}".strip()
    own = visual.state_dict()
    text = _text_state(clip, weights.towers.text)
    text_own = clip.text.model.state_dict() if clip.text is not None and text else {}
    faults = differences(own, found) + differences(text_own, text)
    if faults:
        raise ValueError(f"{path} is not of this model, {base} ({said_in_a_line(faults)}){_hint(clip, found, faults)}")
    if broken := first_not_finite(found) or first_not_finite(text):
        raise ValueError(f"{path} holds numbers that are not finite, in {broken}")
    _check_facts(clip, weights.towers.facts, f"{path} does not fit {base}")
    same_text = all(_equal(text_own[name], text[name]) for name in text)
    if same_text and all(_equal(own[name], found[name]) for name in own):
        raise ValueError(f"{path} holds the weights of {base} themselves, bit for bit; leave model.checkpoint out")
    cosine = kinship(own, found)
    if cosine < RELATED and not unrelated and not text:
        raise ValueError(
            f"{path} was not fine-tuned from {base}: the cosine of its weights with them is {cosine:.2f}; name the "
            "model and tag that it was trained from, or say model.unrelated=true if it is meant to replace them"
        )
    if turned := _transposed(own, found):
        raise ValueError(
            f"{path} stores {turned} transposed; transpose it, or export the weights in open_clip's layout"
        )
    visual.load_state_dict(found)
    if text and clip.text is not None:
        clip.text.model.load_state_dict(text)
        clip.logit_scale, clip.logit_bias = temperature_of(clip.text.model)
    said = [*weights.towers.notes, *(() if same_text else ("text tower and temperature are the file's own",))]
    return {"format": weights.format.name, "kinship": round(cosine, 4), "text": not same_text, "notes": said}


def _transposed(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return the name of a square matrix that lies across the base's and along its transpose; empty where none does.

    Its shape fits, so that it would load, and the median over all matrices does not see one of them.
    """
    for name, value in own.items():
        if value.dim() == 2 and value.shape[0] == value.shape[1] > 1 and value.is_floating_point():
            base, other = value.detach().cpu().float(), found[name].detach().float()
            if kinship({name: base}, {name: other}) < RELATED and kinship({name: base.T}, {name: other}) > 1 - RELATED:
                return name
    return ""


def _equal(own: Tensor, found: Tensor) -> bool:
    """Whether a stored tensor is the base's, as far as its precision goes."""
    return torch.equal(own.detach().cpu().to(found.dtype), found)


def _text_state(clip: CLIP, text: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A text tower named as the model's: open_clip has it under ``text.`` in some models and bare in others."""
    if clip.text is None or not text:
        return {}
    own = clip.text.model.state_dict()
    renamed = {}
    for name, value in text.items():
        other = name.removeprefix("text.") if name.startswith("text.") else f"text.{name}"
        kept = other if name not in own and other in own else name
        scalar = kept in own and own[kept].numel() == value.numel() == 1  # stored as [] by some, as [1] by others
        renamed[kept] = value.reshape(own[kept].shape) if scalar else value
    return renamed


def _check_facts(clip: CLIP, facts: Facts, begin: str) -> None:
    quick = uses_quick_gelu(clip.image.visual)
    if facts.quick_gelu is not None and quick is not None and facts.quick_gelu != quick:
        names = {True: "QuickGELU", False: "GELU"}
        raise ValueError(
            f"{begin}: it computes with {names[facts.quick_gelu]}, that model with {names[quick]}; "
            "name the tag of the weights that it was trained from"
        )
    for name in ("mean", "std"):
        said, own = getattr(facts, name), getattr(clip.image, name).flatten().tolist()
        if said is not None and (len(said) != 3 or max(abs(a - b) for a, b in zip(said, own, strict=True)) > 1e-3):
            raise ValueError(f"{begin}: its pixels have {name} {list(said)}, that model's {[round(v, 4) for v in own]}")


def _hint(clip: CLIP, found: Mapping[str, Tensor], faults: list[str]) -> str:
    from modules.encoders.architecture import architecture_of, models_like

    size = getattr(architecture_of(found), "image_size", None)
    if size not in (None, clip.image.image_size) and all(re.search(r"pos\w*_embed\w* is ", fault) for fault in faults):
        said = f"model.image_size={size} (or --image-size {size})"
        return f"; its positions are for images of {size} x {size} pixels; say {said}"
    like = models_like(found)
    return f"; its shapes are those of {', '.join(like[:4])}" if like else ""
