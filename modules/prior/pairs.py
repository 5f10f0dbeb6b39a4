"""Image and text of some samples as one encoder sees them: what a prior learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_TOLERANCE = 1e-2  # of a length; embeddings stored in half precision stay far inside


@dataclass(frozen=True)
class Pairs:
    """Embeddings of B images and of their texts.

    Attributes:
        image: [B, D] unit.
        text: [B, D] unit.
        tokens: [B, L, D] states of the text tokens, zero behind the end of the text; None for a prior without them.
        key: B names of the samples.
    """

    image: Tensor
    text: Tensor
    tokens: Tensor | None
    key: tuple[str, ...]

    def to(self, device: torch.device | str, **kwargs: Any) -> Pairs:
        """The same pairs on ``device``; ``kwargs`` as in ``Tensor.to``."""
        tokens = None if self.tokens is None else self.tokens.to(device, **kwargs)
        return Pairs(self.image.to(device, **kwargs), self.text.to(device, **kwargs), tokens, self.key)


def check_pairs(pairs: Pairs, dim: int) -> None:
    """Refuse what a prior must never be trained on.

    Raises:
        ValueError: embeddings that are not D wide, not finite or not of unit length; one line that names the samples.
    """
    named = {"image embeddings": pairs.image, "text embeddings": pairs.text, "token states": pairs.tokens}
    for name, values in named.items():
        if values is None:
            continue
        if values.shape[-1] != dim:
            raise ValueError(
                f"{name} are {values.shape[-1]} wide but the prior is {dim} wide (samples {_shown(pairs.key)}); "
                + ("say data.tokens=false" if name == "token states" else "train a prior for this encoder")
            )
        # one sum a row, so that a healthy batch costs one look from the host
        total = values.float().flatten(1).square().sum(dim=1)
        sound = total.isfinite() if name == "token states" else (total.sqrt() - 1).abs() <= _TOLERANCE
        if not sound.all():
            raise ValueError(_fault(name, values, sound, pairs.key))


def _fault(name: str, values: Tensor, sound: Tensor, keys: tuple[str, ...]) -> str:
    finite = values.flatten(1).isfinite().all(dim=1)
    what, bad = ("finite", ~finite) if not finite.all() else ("of unit length", ~sound)
    where = [keys[i] for i in torch.nonzero(bad).flatten().tolist()]
    return f"{len(where)} of {len(keys)} {name} are not {what} (samples {_shown(where)}); embed the data again"


def _shown(names: list[str] | tuple[str, ...], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
