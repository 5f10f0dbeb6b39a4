"""A DiffusionPrior, ours or DALLE2-pytorch's: named, so that it is not taken for an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.encoders.formats.base import Format, Towers, unwrapped

_MARK = "net.learned_query"


def _recognises(content: Mapping[str, Any]) -> bool:
    tables = [unwrapped(content), *(content.get(key) for key in ("model", "ema", "ema_model"))]
    return any(str(name).endswith(_MARK) for table in tables if isinstance(table, Mapping) for name in table)


def _towers(content: Mapping[str, Any]) -> Towers:
    raise ValueError("it is a DiffusionPrior, no encoder; give it as prior=FILE, or to robustclip model convert-prior")


PRIOR = Format("prior", "a DiffusionPrior", _recognises, _towers)
