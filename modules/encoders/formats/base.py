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


_TRAINED = ("state_dict", "model", "module")
_AVERAGED = ("state_dict_ema", "model_ema", "ema", "ema_model", "ema_state_dict", "model_ema_state_dict")


def unwrapped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of tensors that a trainer keeps under a name of its own, or the dictionary itself.

    The trained weights come before their moving average, which is taken where there is nothing else.
    """
    if not any(isinstance(value, Tensor) for value in content.values()):
        return next((content[key] for key in (*_TRAINED, *_AVERAGED) if _is_table(content.get(key))), content)
    return next((content[key] for key in _TRAINED if _is_table(content.get(key))), content)


def table_at(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The table of tensors under a key of a checkpoint, or under ``key.`` in its names.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if _is_table(content.get(key)):
        return dict(content[key])
    table, prefix = unwrapped(content), f"{key.removesuffix('.')}."
    found = {str(name).removeprefix(prefix): value for name, value in table.items() if str(name).startswith(prefix)}
    if found:
        return found
    known = [str(name) for name, value in content.items() if _is_table(value)]
    raise ValueError(f"it has no weights under {key!r}; choose one of: {', '.join(known) or 'none'}")


def choice_of(content: Mapping[str, Any], key: str | None = None) -> str:
    """Which of several tables of weights in a checkpoint is read, in words; empty where there is one.

    Args:
        content: of the checkpoint.
        key: of the table that was asked for.
    """
    averages = [name for name in _AVERAGED if _is_table(content.get(name))]
    taken = next((str(name) for name, value in content.items() if value is unwrapped(content)), "")
    if "ema" not in averages and any(str(name).startswith("ema.") for name in unwrapped(content)):
        averages.append("ema")
    others = [name for name in (*([taken] if taken else []), *averages) if name != (key or taken)]
    if key is not None:
        return f"read the weights under {key!r}" + (f", not those under {', '.join(others)}" if others else "")
    if taken in averages:
        return f"read the moving average of the weights, {taken!r}, as the file holds no others"
    if not others:
        return ""
    return (
        f"read the trained weights, not their moving average; for that say model.checkpoint_key={others[0]}"
        if averages
        else ""
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(inner, Tensor) for inner in value.values())
