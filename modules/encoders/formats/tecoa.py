"""Files of the repositories of TeCoA (arXiv:2212.07016), PMG-AFT and TTC: OpenAI's names under a key of their own.

Beside the image tower they keep a prompter's ``state_dict``, which is no part of the tower.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from modules.encoders.formats.base import Format, Towers, tensors_of

KEY = "vision_encoder_state_dict"

_BLOCK = r"transformer\.resblocks\.\d+\."
_BOTTLENECK = r"layer[1-4]\.\d+\."
_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
# OpenAI's name -> open_clip's.  They agree today; the table says which names are known, whatever either adds.
TABLE = {
    r"(class_embedding|positional_embedding|proj)": r"\g<0>",
    r"conv[1-3]\.weight": r"\g<0>",
    r"ln_(pre|post)\.(weight|bias)": r"\g<0>",
    _BLOCK + r"ln_[12]\.(weight|bias)": r"\g<0>",
    _BLOCK + r"attn\.in_proj_(weight|bias)": r"\g<0>",
    _BLOCK + r"attn\.out_proj\.(weight|bias)": r"\g<0>",
    _BLOCK + r"mlp\.c_(fc|proj)\.(weight|bias)": r"\g<0>",
    r"bn[1-3]\." + _NORM: r"\g<0>",
    _BOTTLENECK + r"conv[1-3]\.weight": r"\g<0>",
    _BOTTLENECK + r"bn[1-3]\." + _NORM: r"\g<0>",
    _BOTTLENECK + r"downsample\.0\.weight": r"\g<0>",
    _BOTTLENECK + r"downsample\.1\." + _NORM: r"\g<0>",
    r"attnpool\.positional_embedding": r"\g<0>",
    r"attnpool\.[qkvc]_proj\.(weight|bias)": r"\g<0>",
}


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor under open_clip's name; a name that is not in the table stays, and is found unexpected."""
    found = {}
    for name, value in state.items():
        pattern = next((pattern for pattern in TABLE if re.fullmatch(pattern, name)), None)
        found[name if pattern is None else re.sub(pattern, TABLE[pattern], name)] = value
    return found


def _recognises(content: Mapping[str, Any]) -> bool:
    return isinstance(content.get(KEY), Mapping)


def _towers(content: Mapping[str, Any]) -> Towers:
    state = tensors_of(content[KEY])
    if state and all(name.startswith("visual.") for name in state):
        state = {name.removeprefix("visual."): value for name, value in state.items()}
    prompter = content.get("state_dict")
    notes = ("the file's prompter was left out",) if isinstance(prompter, Mapping) and prompter else ()
    return Towers(_renamed(state), notes=notes)


TECOA = Format("tecoa", "a file of the TeCoA, PMG-AFT and TTC repositories", _recognises, _towers)
