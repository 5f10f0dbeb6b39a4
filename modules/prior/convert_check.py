"""Whether a converted prior means what its weights were trained to mean: it must predict image embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.prior.diffusion import DiffusionPrior

PAIRS = 256
STEPS = 16  # of DDIM: enough to tell right from wrong
LEAST = 0.6  # cosine with the original image; priors that were released reach about 0.7
_BATCH = 32


class CheckPairs(NamedTuple):
    """Embeddings of images and of their captions, image and text [n, D], tokens [n, L, D] or None."""

    image: Tensor
    text: Tensor
    tokens: Tensor | None


@dataclass(frozen=True)
class Check:
    """What the self-check measured.

    Attributes:
        cosine: mean cosine of sampled and original image embeddings.
        cosine_other: the same of the same weights under the other kind of attention.
        n: pairs.
    """

    cosine: float
    cosine_other: float
    n: int

    def record(self) -> dict[str, float | int]:
        """Plain values for a file."""
        return asdict(self)

    def require(self, path: object) -> None:
        """Refuse what does not predict images, or predicts them better under the other attention.

        Raises:
            ValueError: with both cosines.
        """
        if self.cosine >= LEAST and self.cosine > self.cosine_other:
            return
        told = f"{path} was not converted: its samples have cosine {self.cosine:.3f} with the {self.n} images"
        if self.cosine_other > self.cosine and self.cosine_other >= LEAST:
            raise ValueError(f"{told}, but {self.cosine_other:.3f} with the other attention; say --attention")
        raise ValueError(
            f"{told} (other attention: {self.cosine_other:.3f}), and should have {LEAST} and more than the other; "
            "check --source-version, --prediction, --weights, and that the embeddings are of the encoder of this prior"
        )


@torch.no_grad()
def similarity(prior: DiffusionPrior, pairs: CheckPairs, *, done: Callable[[int], None] | None = None) -> float:
    """Mean cosine of one sampled image embedding per text and the original.

    Args:
        prior: to sample from.
        pairs: of unseen images.
        done: told how many pairs are through.

    Raises:
        ValueError: the embeddings are of another width.
    """
    width = pairs.image.shape[1]
    if width != prior.embedding_dim:
        raise ValueError(f"the embeddings are {width} wide but the prior is {prior.embedding_dim} wide; embed again")
    steps = min(STEPS, prior.noise_scheduler.timesteps)
    total = 0.0
    for start in range(0, len(pairs.image), _BATCH):
        rows = slice(start, start + _BATCH)
        text = pairs.text[rows]
        names = [f"check-{start + i}" for i in range(len(text))]
        with noise.samples(noise.keys_of(names), seed=0, draw=0):
            tokens = None if pairs.tokens is None else pairs.tokens[rows]
            sampled = prior.sample(text, tokens, steps=steps, eta=0.0, best_of=1, stream="check")
        total += F.cosine_similarity(sampled, pairs.image[rows], dim=-1).nan_to_num(-1.0).sum().item()
        if done is not None:
            done(len(text))
    return total / len(pairs.image)
