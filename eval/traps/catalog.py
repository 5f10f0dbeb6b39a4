"""All traps, by name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from configs.files import ConfigError
from eval.traps import broken, genuine
from eval.traps.case import TRAPS, Trap

__all__ = ["TRAPS", "broken", "choose", "genuine"]


def choose(names: Sequence[str]) -> list[Trap]:
    """The traps of some names, kinds, ``broken`` or ``honest``; all of them where nothing is named.

    Raises:
        ConfigError: no trap and no kind is called so.
    """
    known = {name for trap in TRAPS.values() for name in _names(trap)}
    for name in names:
        if name not in known:
            near = get_close_matches(name, sorted(known), n=3) or ["broken", "honest"]
            raise ConfigError(f"unknown trap {name!r}; did you mean {' or '.join(near)}? robustclip traps --list")
    return [trap for trap in TRAPS.values() if not names or _names(trap) & set(names)]


def _names(trap: Trap) -> set[str]:
    return {trap.name, trap.kind, "broken" if trap.broken else "honest"}
