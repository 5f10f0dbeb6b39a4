"""The one detector: what a file or a folder of weights is, and its towers in open_clip's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modules.encoders.formats.base import Facts, Format, Towers, choice_of, table_at
from modules.encoders.formats.folders import read_folder
from modules.encoders.formats.open_clip import OPEN_CLIP
from modules.encoders.formats.prior import PRIOR
from modules.encoders.formats.tecoa import TECOA
from modules.encoders.formats.timm import TIMM
from modules.encoders.formats.transformers import TRANSFORMERS
from modules.encoders.formats.visual import VISUAL
from modules.weights_file import read_content

ORDER: tuple[Format, ...] = (TECOA, PRIOR, TRANSFORMERS, OPEN_CLIP, TIMM, VISUAL)
"""The first format that recognises a dictionary has it."""


@dataclass(frozen=True)
class Weights:
    """The weights in a file.

    Attributes:
        path: file or folder.
        format: of the tensors.
        towers: in open_clip's names.
        metadata: what robustclip or Lightning wrote beside them.
        choice: which of several tables in the file was read, in words; empty where there is one.
    """

    path: Path
    format: Format
    towers: Towers
    metadata: dict[str, Any]
    choice: str = ""


def format_of(content: Mapping[str, Any]) -> Format | None:
    """The format of a file's dictionary; None where it holds no tensors at a place that is known."""
    return next((known for known in ORDER if known.recognises(content)), None)


def open_weights(path: Path, key: str | None = None) -> Weights:
    """The weights in a file or folder of any known format; nothing in it is executed.

    Args:
        path: file or folder.
        key: of the table of weights to read, of a checkpoint that holds several; None takes the trained ones.

    Raises:
        ValueError: missing, damaged, refused, of no known format, or without an image tower.
    """
    facts = Facts()
    if path.is_dir():
        content, metadata, facts = read_folder(path)
    else:
        content, metadata = read_content(path)
    choice = choice_of(content, key)
    try:
        content = content if key is None else table_at(content, key)
    except ValueError as error:
        raise ValueError(f"{path} was not loaded: {error}") from error
    known = format_of(content)
    if known is None:
        raise ValueError(f"{path} holds no tensors at a place that is known")
    try:
        towers = known.towers(content)
    except ValueError as error:
        raise ValueError(f"{path} was not loaded: {error}") from error
    if metadata.get("kind") == "prior":
        raise ValueError(f"{path} is a prior, no encoder; give it as prior=FILE")
    notes = (*towers.notes, *([choice] if choice else []))
    return Weights(path, known, replace(towers, notes=notes, facts=facts), metadata, choice)
