"""What every format of weights comes down to: the tensors of the towers, and what the file says beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Facts:
    """What a file says of the network that its weights belong to; None where it says nothing.

    Attributes:
        quick_gelu: the activation is QuickGELU, not GELU.
        mean: of the pixels, per channel.
        std: of the pixels, per channel.
        image_size: H = W.
    """

    quick_gelu: bool | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class Towers:
    """The weights of a CLIP in open_clip's names.

    Attributes:
        visual: the image tower, named as in open_clip's ``visual``.
        text: everything else of a whole CLIP, temperature included; empty where there is an image tower only.
        facts: what the file says of the network.
        notes: what was done to the file's tensors, or left out of it, in words.
    """

    visual: dict[str, Tensor]
    text: dict[str, Tensor] = field(default_factory=dict)
    facts: Facts = Facts()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A layout of tensors in a file.

    Attributes:
        name: one word.
        title: in words.
        recognises: whether a file's dictionary is of this layout.
        towers: the towers in such a dictionary.
    """

    name: str
    title: str
    recognises: Callable[[Mapping[str, Any]], bool]
    towers: Callable[[Mapping[str, Any]], Towers]


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors at the top of a dictionary, without wrappers around their names.

    ``module.`` is of data-parallel training, ``_orig_mod.`` of compilation.
    """
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for wrapper in ("module.", "_orig_mod.", "module."):
        if state and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def unwrapped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of tensors that a trainer keeps under a name of its own, or the dictionary itself."""
    for key in ("state_dict", "model", "module"):
        inner = content.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            return inner
    return content
