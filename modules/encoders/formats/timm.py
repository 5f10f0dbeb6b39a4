"""An image tower in timm's own names, DINO's among them; a classifier on top is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.encoders.formats.base import Format, Towers, tensors_of, unwrapped

_MARKS = ("patch_embed.proj.weight", "stem.0.weight", "patch_embed.0.weight")
_CLASSIFIER = ("head.weight", "head.bias", "head.fc.weight", "head.fc.bias", "fc.weight", "fc.bias")


def _recognises(content: Mapping[str, Any]) -> bool:
    state = tensors_of(unwrapped(content))
    return any(mark in state for mark in _MARKS)


def _towers(content: Mapping[str, Any]) -> Towers:
    state = tensors_of(unwrapped(content))
    classifier = [name for name in _CLASSIFIER if name in state]
    kept = {name: value for name, value in state.items() if name not in classifier}
    return Towers(kept, notes=("the file's classifier was left out",) if classifier else ())


TIMM = Format("timm", "an image tower in timm's names (DINO)", _recognises, _towers)
