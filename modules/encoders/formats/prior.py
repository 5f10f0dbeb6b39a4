"""A DiffusionPrior, ours or DALLE2-pytorch's: named, so that it is not taken for an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.encoders.formats.base import Format, Towers, tensors_of, unwrapped

_MARK = "net.learned_query"


def _recognises(content: Mapping[str, Any]) -> bool:
    if isinstance(content.get("ema"), Mapping) or isinstance(content.get("ema_model"), Mapping):
        return isinstance(content.get("model"), Mapping)
    return any(name.endswith(_MARK) for name in tensors_of(unwrapped(content)))


def _towers(content: Mapping[str, Any]) -> Towers:
    raise ValueError("it is a DiffusionPrior, no encoder; give it as prior=FILE, or to robustclip model convert-prior")


PRIOR = Format("prior", "a DiffusionPrior", _recognises, _towers)
