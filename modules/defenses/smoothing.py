"""Randomised smoothing (arXiv:1902.02918): a vote over Gaussian noise, and the radius that it certifies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.special import betaincinv, ndtri
from torch import Tensor

from modules import noise
from modules.defenses.base import Defense
from modules.defenses.smooth import variant
from modules.encoders.base import ImageEncoder

CERTIFY_DRAW = 2_000_003  # a draw of the noise that no attack and no score uses

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Certificate:
    """What was certified of a batch.

    Attributes:
        prediction: [B] the smoothed class; meaningless where abstained.
        radius: [B] l2 radius in [0, 1] pixels within which the class cannot change; 0 where abstained.
        abstained: [B] bool, too close a vote to certify anything.
    """

    prediction: Tensor
    radius: Tensor
    abstained: Tensor

    def correct(self, y: Tensor, radius: float = 0.0) -> Tensor:
        """[B] bool: certified to be the label y [B] at least this far around; an abstention is wrong."""
        return ~self.abstained & (self.prediction == y) & (self.radius >= radius)


class RandomizedSmoothing(Defense):
    """Lets the zero-shot head vote on noisy looks at the image.

    The noise is not cut to the box: the certificate is for Gaussian noise, so the encoder sees pixels beyond [0, 1].
    The embedding is the mean normalised one of the looks, for tasks without a head.  A random encoder inside keeps
    one draw of its own noise over all looks.

    Args:
        encoder: the encoder to defend; best one that was trained under such noise.
        sigma: standard deviation of the noise, in [0, 1] pixels.
        draws: looks behind a vote; a certificate takes many more.
    """

    random = True

    def __init__(self, encoder: ImageEncoder, /, *, sigma: float = 0.25, draws: int = 32) -> None:
        super().__init__(encoder)
        if sigma <= 0 or draws < 1:
            raise ValueError(f"smoothing takes sigma > 0 and draws >= 1, not {sigma}, {draws}")
        self.sigma, self.draws = sigma, draws

    def embeddings(self, x: Tensor) -> Iterator[Tensor]:
        """Embeddings [B, D], a noisy look at x [B, 3, H, W] at a time."""
        for look in range(self.draws):
            yield self.encoder.encode_image(x + self.sigma * noise.normal(x, f"smoothing/{look}"))

    def encode_image(self, x: Tensor) -> Tensor:
        """Mean normalised embedding [B, D] of the looks."""
        return self.purify_latent(torch.stack([F.normalize(z, dim=1) for z in self.embeddings(x)]).mean(dim=0))

    def logits(self, x: Tensor, head: Head) -> Tensor:
        """Votes [B, K]; a fraction below one half, by the mean logits, tells equal votes apart."""
        looks = torch.stack([head(z) for z in self.embeddings(x)])
        votes = F.one_hot(looks.argmax(dim=2), looks.shape[2]).sum(dim=0)
        return votes + 0.5 * looks.mean(dim=0).softmax(dim=1)

    def differentiable(self) -> ImageEncoder:
        """The mean probability over the same looks, since votes have no slope (arXiv:1906.04584)."""
        return SoftVote(self)

    def cheaper(self) -> ImageEncoder | None:
        """A quarter of the looks, with the soft vote's gradient."""
        draws = max(1, self.draws // 4)
        return SoftVote(variant(self, draws=draws)) if draws < self.draws else None

    @torch.no_grad()
    def certify(
        self,
        x: Tensor,
        head: Head,
        *,
        n0: int = 100,
        n: int = 10_000,
        alpha: float = 0.001,
        batch: int = 256,
    ) -> Certificate:
        """Classes and radii that hold with probability 1 - alpha each, by the draw of the noise.

        A first set of looks picks the class, a second one bounds its probability p from below (Clopper-Pearson); the
        radius is sigma Phi^-1(p) where p exceeds one half.  Both belong to the sample, whatever the batch.

        Args:
            x: images [B, 3, H, W].
            head: embeddings [B, D] -> logits [B, K].
            n0: looks that pick the class.
            n: looks that certify it.
            alpha: probability of a certificate that is wrong.
            batch: noisy images per forward pass, at most.

        Raises:
            ValueError: no looks, or alpha not in (0, 1).
        """
        if min(n0, n, batch) < 1 or not 0 < alpha < 1:
            raise ValueError(
                f"a certificate takes n0, n and batch >= 1 and alpha in (0, 1), not {n0}, {n}, {batch}, {alpha}"
            )
        picked, hits = [], []
        with noise.redraw(x, CERTIFY_DRAW):
            for index in torch.arange(len(x), device=x.device).split(batch):
                with noise.subset(index):
                    choice = self._votes(x[index], head, n0, "pick", batch).argmax(dim=1)
                    votes = self._votes(x[index], head, n, "certify", batch)
                picked.append(choice)
                hits.append(votes.gather(1, choice[:, None]).squeeze(1))
        bound = lower_bound(torch.cat(hits), n, alpha)
        radius = self.sigma * torch.as_tensor(ndtri(bound.clamp_min(0.5).numpy()))
        return Certificate(torch.cat(picked), radius.to(x), (bound <= 0.5).to(x.device))

    def _votes(self, x: Tensor, head: Head, looks: int, purpose: str, batch: int) -> Tensor:
        """[B, K] how often the encoder inside takes a noisy look for each class; at most ``batch`` images."""
        votes: Tensor | None = None
        for part in torch.arange(looks).split(max(1, batch // len(x))):
            streams = [f"smoothing/{purpose}/{look}" for look in part.tolist()]
            noisy = torch.cat([x + self.sigma * noise.normal(x, stream) for stream in streams])
            with noise.subset(torch.arange(len(x), device=x.device).repeat(len(streams))):
                logits = self.encoder.logits(noisy, head)
            hits = F.one_hot(logits.argmax(dim=1), logits.shape[1]).view(len(streams), len(x), -1).sum(dim=0)
            votes = hits if votes is None else votes + hits
        assert votes is not None
        return votes


class SoftVote(ImageEncoder):
    """Smoothing as an adaptive attacker sees it: the logarithm of the mean probability over the looks.

    Args:
        defense: the defence.
    """

    faithful = False  # a mean is not a vote

    def __init__(self, defense: RandomizedSmoothing, /) -> None:
        super().__init__()
        self.defense = defense
        self.embedding_dim, self.image_size = defense.embedding_dim, defense.image_size

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D], the defence's own."""
        return self.defense.encode_image(x)

    def logits(self, x: Tensor, head: Head) -> Tensor:
        """Logarithm of the mean probabilities [B, K]."""
        looks = torch.stack([head(z).log_softmax(dim=1) for z in self.defense.embeddings(x)])
        return looks.logsumexp(dim=0) - math.log(len(looks))


def lower_bound(hits: Tensor, looks: int, alpha: float) -> Tensor:
    """[B] float64 lower confidence bound of a probability, given hits [B] in independent looks (Clopper-Pearson)."""
    count = hits.cpu().double().numpy()
    bound = betaincinv(count, looks - count + 1, alpha)
    return torch.nan_to_num(torch.as_tensor(bound), nan=0.0)  # no hit at all
