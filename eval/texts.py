"""The memory of text towers that all evaluations of a process share."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from torch import Tensor

from configs.files import ConfigError
from data.cache_folder import cache_folder
from modules.encoders.clip import TextEncoder
from modules.zero_shot import TextMemory

SWITCH = "ROBUSTCLIP_TEXT_CACHE"


def text_memory() -> TextMemory | None:
    """What remembers, also on disk in the user's cache; None where ``ROBUSTCLIP_TEXT_CACHE=off``.

    Raises:
        ConfigError: the switch says something else.
    """
    said = os.environ.get(SWITCH) or "on"
    if said not in ("on", "off"):
        raise ConfigError(f"{SWITCH}={said} means nothing; say on or off")
    return _memory(cache_folder() / "texts") if said == "on" else None


def blank_prompt(text: TextEncoder, prompt: str) -> tuple[Tensor, Tensor]:
    """The embedding [D] of a prompt, and the states [1, L, Dt] of its tokens."""
    memory, words = text_memory(), ([prompt],)
    if memory is None:
        return text.encode_text([prompt])[0], text.token_states([prompt])
    blank = memory.recall(text, "embedding", words, lambda: text.encode_text([prompt])[0])
    return blank, memory.recall(text, "tokens", words, lambda: text.token_states([prompt]))


@cache
def _memory(folder: Path) -> TextMemory:
    return TextMemory(folder)
