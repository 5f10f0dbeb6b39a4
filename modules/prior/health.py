"""How well a prior does on pairs that it has not seen: the measures by which released priors were judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.prior.pairs import Pairs

if TYPE_CHECKING:
    from modules.prior.diffusion import DiffusionPrior
    from modules.prior.transformer import TextPrefix

SIMILARITIES = ("similarity_image", "similarity_text", "baseline", "difference_from_baseline", "similarity_unrelated")
_SAME = 1e-5  # 1 - cos below which two texts are one; storage in half precision moves it by 1e-7


def timestep_bins(timesteps: int, bins: int) -> list[tuple[int, int]]:
    """First and last timestep of equal parts of the schedule; no more parts than timesteps."""
    bins = min(bins, timesteps)
    edges = [timesteps * i // bins for i in range(bins + 1)]
    return [(first, following - 1) for first, following in zip(edges, edges[1:], strict=False)]


def denoising_name(first: int, last: int) -> str:
    """Name of the denoising loss between two timesteps, both included."""
    return f"denoising/{first:04d}-{last:04d}"


def measures(timesteps: int, bins: int) -> list[str]:
    """Names of all that ``health`` measures, in order."""
    return ["loss", *SIMILARITIES, *(denoising_name(*edges) for edges in timestep_bins(timesteps, bins))]


@torch.no_grad()
def health(prior: DiffusionPrior, pairs: Pairs, *, sample_steps: int, bins: int) -> dict[str, Tensor]:
    """Values [B] of each of ``measures``, at noise that belongs to each sample.

    ``loss`` is the training loss; the similarities are cosines of a drawn embedding with the image, its text and
    another text (only samples for which the batch has one), and of image with text; ``denoising`` is the mean squared
    error of the predicted embedding, with the text, in each part of the timesteps.

    Args:
        prior: in evaluation mode.
        pairs: that it was not trained on.
        sample_steps: of a drawn embedding.
        bins: parts of the timesteps.
    """
    predicted = prior.sample(pairs.text, pairs.tokens, steps=sample_steps, stream="val/sample")
    to_text = F.cosine_similarity(predicted, pairs.text, dim=-1)
    baseline = F.cosine_similarity(pairs.image, pairs.text, dim=-1)
    rows, others = unrelated(pairs.text)
    return {
        "loss": validation_loss(prior, pairs),
        "similarity_image": F.cosine_similarity(predicted, pairs.image, dim=-1),
        "similarity_text": to_text,
        "baseline": baseline,
        "difference_from_baseline": to_text - baseline,
        "similarity_unrelated": F.cosine_similarity(predicted[rows], pairs.text[others], dim=-1),
        **_denoising(prior, pairs, prior.text_prefix(pairs.text, pairs.tokens), bins),
    }


@torch.no_grad()
def validation_loss(prior: DiffusionPrior, pairs: Pairs) -> Tensor:
    """[B] training loss at the timesteps, noise and drops of the validation."""
    return prior.loss_per_sample(pairs.image, pairs.text, pairs.tokens, stream="val")


def unrelated(text: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that have a different text in the batch, and the next row, cyclically, that holds one: [B'], [B'].

    Captions may repeat, so a shuffle is not enough.

    Args:
        text: [B, D].
    """
    unit = F.normalize(text.double() if text.device.type != "mps" else text, dim=-1)
    differs = 1 - unit @ unit.T > _SAME
    order = torch.arange(len(text), device=text.device)
    distance = (order[None, :] - order[:, None]) % len(text)
    distance = torch.where(differs, distance, len(text))
    nearest, other = distance.min(dim=1)
    found = nearest < len(text)
    return order[found], other[found]


def _denoising(prior: DiffusionPrior, pairs: Pairs, prefix: TextPrefix, bins: int) -> dict[str, Tensor]:
    found, unit = {}, F.normalize(pairs.image, dim=-1)
    for first, last in timestep_bins(prior.noise_scheduler.timesteps, bins):
        name = denoising_name(first, last)
        t = noise.integers(pairs.image, f"val/{name}/t", first, last)
        eps = noise.normal(pairs.image, f"val/{name}/eps")
        found[name] = prior.denoising_error(unit, t, eps, None, prefix=prefix)
    return found
