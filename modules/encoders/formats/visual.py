"""An image tower by itself, named as in open_clip's ``visual``: FARE's ``.pt`` files, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.encoders.formats.base import Format, Towers, tensors_of, unwrapped


def _recognises(content: Mapping[str, Any]) -> bool:
    return bool(tensors_of(unwrapped(content)))


def _towers(content: Mapping[str, Any]) -> Towers:
    return Towers(tensors_of(unwrapped(content)))


VISUAL = Format("visual", "an image tower by itself (FARE, robustclip)", _recognises, _towers)
"""Stands last among the formats: any table of tensors may be an image tower, its base decides."""
