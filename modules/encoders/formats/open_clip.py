"""A whole CLIP in open_clip's names: its ``epoch_K.pt``, hub files, and trainings that hold one (Lightning)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from modules.encoders.formats.base import Format, Towers, tensors_of, unwrapped

_TOWER = "visual."
NO_WEIGHTS = {  # buffers and constants that older files carry
    "attn_mask",
    "context_length",
    "input_resolution",
    "text.attn_mask",
    "text.transformer.embeddings.position_ids",
    "vocab_size",
}


def _prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """What stands before ``visual.`` in names; an optimiser's states, named alike, are no towers."""
    found = {name.partition(_TOWER)[0] for name in state if name.startswith(_TOWER) or "." + _TOWER in name}
    return sorted(prefix for prefix in found if not prefix.startswith(("optim", "ema.", "reference.")))


def _recognises(content: Mapping[str, Any]) -> bool:
    return bool(_prefixes(tensors_of(unwrapped(content))))


def _towers(content: Mapping[str, Any]) -> Towers:
    state = tensors_of(unwrapped(content))
    prefixes = _prefixes(state)
    if "encoder." in prefixes:  # a training of ours, whose other encoder is the reference
        prefixes = ["encoder."]
    if len(prefixes) > 1:
        raise ValueError(f"it holds several image towers, under {', '.join(map(repr, prefixes))}; save one of them")
    prefix = prefixes[0]
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    visual = {name.removeprefix(_TOWER): value for name, value in own.items() if name.startswith(_TOWER)}
    rest = {name: value for name, value in own.items() if not name.startswith(_TOWER) and name not in NO_WEIGHTS}
    whole = any(name.removeprefix("text.").startswith(("token_embedding.", "transformer.")) for name in rest)
    return Towers(visual, rest if whole else {})


OPEN_CLIP = Format("open_clip", "a CLIP in open_clip's names", _recognises, _towers)
