"""What a release of DALLE2-pytorch wrote into its files, and what it computed with it.

Key names and shapes do not tell: attention changed without a new name, and so did the layer norms.  The table was
read off the releases on the package index, and each of its mathematical rows is tested against one of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from modules.choices import check_choice
from modules.prior.attention import AttentionKind
from modules.prior.nulls import NullKind
from modules.prior.transformer import StableNorm

Release = tuple[int, ...]

_NEWEST: Release = (1, 15, 6)
_OLDEST: Release = (0, 3, 0)
# From each of these releases on, until the next of the same field.  0.22.0 to 0.22.3 made NaN of every padded text.
_CHANGES: tuple[tuple[Release, dict[str, Any]], ...] = (
    (_OLDEST, {}),
    ((0, 11, 0), {"tables": "noise_scheduler."}),
    ((0, 16, 0), {"gain": "g"}),
    ((0, 16, 1), {"bias_factor": 1024}),
    ((0, 16, 2), {"stable_norm": "all"}),
    ((0, 23, 0), {"nulls": "padding"}),
    ((0, 23, 3), {"bias_factor": 128, "stable_norm": "last"}),
    ((1, 4, 3), {"bias_factor": 1, "attention": "cosine"}),
    ((1, 9, 0), {"nulls": "text_kept"}),
    ((1, 10, 4), {"nulls": "learned"}),
)
SELF_COND: tuple[Release, Release] = ((1, 6, 2), (1, 12, 1))  # between them another sequence: the image twice, no query
_NULL_NAMES: dict[NullKind, frozenset[str]] = {
    "masked": frozenset(),
    "padding": frozenset({"null_text_embed"}),
    "text_kept": frozenset({"null_text_encodings", "null_text_embeds", "null_image_embed"}),
    "learned": frozenset({"null_text_encodings", "null_text_embeds", "null_image_embed"}),
}
_ALL_NULL_NAMES = frozenset[str]().union(*_NULL_NAMES.values())


@dataclass(frozen=True)
class Layout:
    """Files of consecutive releases that mean the same.

    Attributes:
        first: the first of these releases.
        until: the first release after them; None for the newest.
        attention: cosine or dot product.
        nulls: what stands for missing text and images.
        stable_norm: which norms divide by the largest entry first.
        bias_factor: the relative bias counts so many times; an old trick for half precision scaled it by accident.
        tables: what the schedule's tables are named after.
        gain: name of a layer norm's gain.
    """

    first: Release = _OLDEST
    until: Release | None = None
    attention: AttentionKind = "dot"
    nulls: NullKind = "masked"
    stable_norm: StableNorm = "none"
    bias_factor: int = 1
    tables: str = ""
    gain: str = "gamma"

    def __post_init__(self) -> None:
        check_choice("attention", self.attention, AttentionKind)
        check_choice("nulls", self.nulls, NullKind)
        check_choice("stable_norm", self.stable_norm, StableNorm)

    @property
    def releases(self) -> str:
        """The releases in words."""
        return f"{dotted(self.first)} to " + (f"before {dotted(self.until)}" if self.until else dotted(_NEWEST))

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What the network computes with the weights."""
        return self.attention, self.nulls, self.stable_norm, self.bias_factor

    def with_attention(self, attention: AttentionKind | None) -> Layout:
        """The same, but with the attention, and the factor of the bias, of the nearest release that had it."""
        if attention in (None, self.attention):
            return self
        last_dot = layout_of((1, 4, 2))
        return replace(self, attention=attention, bias_factor=1 if attention == "cosine" else last_dot.bias_factor)

    def fits(self, names: Collection[str], tables: str | None) -> bool:
        """Whether a file of these names can be of these releases.

        Args:
            names: of the network's tensors, from the network on.
            tables: what the schedule's tables are named after; None where the file has none.
        """
        gamma = any(name.endswith(".gamma") for name in names)
        return (
            gamma == (self.gain == "gamma")
            and _ALL_NULL_NAMES & set(names) == _NULL_NAMES[self.nulls]
            and tables in (None, self.tables)
        )


def _layouts() -> list[Layout]:
    layouts, current = [], Layout()
    for i, (first, change) in enumerate(_CHANGES):
        until = _CHANGES[i + 1][0] if i + 1 < len(_CHANGES) else None
        current = replace(current, first=first, until=until, **change)
        layouts.append(current)
    return layouts


LAYOUTS = _layouts()


def layout_of(release: Release) -> Layout:
    """The layout of a release.

    Raises:
        ValueError: it is older or newer than those that were looked at.
    """
    if not _OLDEST <= release <= _NEWEST:
        raise ValueError(
            f"dalle2-pytorch {dotted(release)} is not known ({dotted(_OLDEST)} to {dotted(_NEWEST)} are); "
            "say --source-version with the nearest known release if nothing changed since"
        )
    return next(layout for layout in reversed(LAYOUTS) if layout.first <= release)


def fitting(names: Collection[str], tables: str | None) -> list[Layout]:
    """Layouts that a file's names allow, oldest first; arguments as of ``Layout.fits``."""
    return [layout for layout in LAYOUTS if layout.fits(names, tables)]


def dotted(release: Release) -> str:
    """A release as it is written."""
    return ".".join(str(part) for part in release)
