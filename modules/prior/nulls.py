"""What stands where a text or an image is missing.

Today's priors learn a row for everything that can be missing.  Weights of older releases of DALLE2-pytorch were
trained with other answers, which are kept here so that those weights go on to mean what they meant.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from modules.choices import check_choice

NullKind = Literal["learned", "text_kept", "padding", "masked"]

LEARNED_STATES = ("learned", "text_kept", "padding")  # a learned row for every padded state
LEARNED_IMAGE = ("learned", "text_kept")  # a learned image token
UNDROPPED = ("text_kept", "padding")  # the text embedding is never missing


def text_with_nulls(
    kind: NullKind,
    states_BLD: Tensor,
    embeds_BND: Tensor,
    keep_B: Tensor | None,
    null_states: Tensor | None,
    null_embeds: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Text tokens [B, L + N, D], and where they are hidden from all later tokens [B, L + N], None for nowhere.

    Args:
        kind: ``learned``: a learned row for padded states, dropped states and a dropped embedding; ``text_kept``: a
            dropped text keeps its embedding; ``padding``: rows for padded states alone, drops change nothing;
            ``masked``: padded states and dropped texts are hidden.
        states_BLD: states of the text tokens, zero where padded.
        embeds_BND: tokens made of the text embedding.
        keep_B: samples that keep their text; None for all.
        null_states: [1, L, D] learned rows.
        null_embeds: [1, N, D] learned rows.
    """
    check_choice("kind", kind, NullKind)
    present_BL = (states_BLD != 0).any(dim=-1)
    if null_states is None:
        seen = torch.cat([present_BL, present_BL.new_ones(embeds_BND.shape[:2])], dim=1)
        if keep_B is not None:
            seen = seen & keep_B[:, None]
        # Ones: a stable norm would make NaN of a row of zeros, and NaN passes through any mask.
        tokens = torch.cat([states_BLD, embeds_BND], dim=1)
        return torch.where(seen[:, :, None], tokens, torch.ones_like(tokens)), ~seen
    if keep_B is not None and kind != "padding":
        present_BL = present_BL & keep_B[:, None]
        if null_embeds is not None:
            embeds_BND = torch.where(keep_B[:, None, None], embeds_BND, null_embeds.to(embeds_BND.dtype))
    states_BLD = torch.where(present_BL[:, :, None], states_BLD, null_states.to(states_BLD.dtype))
    return torch.cat([states_BLD, embeds_BND], dim=1), None
