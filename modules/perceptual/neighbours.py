"""Classes from labelled examples: the nearest neighbours, or a line between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.choices import check_choice
from modules.perceptual.metric import unit

Votes = Literal["majority", "distance"]


class NearestNeighbours(nn.Module):
    """Reads a class off the k labelled embeddings of largest cosine.

    Args:
        embeddings: [N, D] of the examples; made length 1 here.
        labels: [N] class indices.
        classes: K names.
        k: neighbours that vote.
        votes: ``majority``, or ``distance``: each neighbour counts exp(cosine / temperature).
        temperature: of the votes by distance and of the soft margin that attacks ascend.

    Raises:
        ValueError: fewer examples than k, a class without examples, or fewer than two classes.
    """

    embeddings: Tensor
    labels: Tensor

    def __init__(
        self,
        embeddings: Tensor,
        labels: Tensor,
        classes: Sequence[str],
        /,
        *,
        k: int = 5,
        votes: Votes = "majority",
        temperature: float = 0.01,
    ) -> None:
        check_choice("votes", votes, Votes)
        super().__init__()
        check_examples(labels, classes)
        if not 1 <= k <= len(embeddings):
            raise ValueError(f"{k} neighbours cannot be found among {len(embeddings)} examples; lower k")
        self.register_buffer("embeddings", unit(embeddings), persistent=False)
        self.register_buffer("labels", labels.long(), persistent=False)
        self.classes, self.k, self.votes, self.temperature = list(classes), k, votes, temperature

    def forward(self, z: Tensor) -> Tensor:
        """[B, K] the votes for each class; equal ones are told apart by ``soft``, by less than a vote."""
        cosines, nearest = (unit(z) @ self.embeddings.T).topk(self.k, dim=1)
        weights = torch.ones_like(cosines)
        if self.votes == "distance":
            weights = ((cosines - cosines[:, :1]) / self.temperature).exp()
        counts = torch.zeros(len(z), len(self.classes), device=z.device, dtype=weights.dtype)
        counts = counts.scatter_add(1, self.labels[nearest], weights)
        return counts + 0.5 * self.soft(z).softmax(dim=1) / self.k if self.votes == "majority" else counts

    def soft(self, z: Tensor) -> Tensor:
        """[B, K] log of the sum over a class's examples of exp(cosine / temperature): smooth, for who needs a slope."""
        scores = unit(z) @ self.embeddings.T / self.temperature
        per_class = [scores[:, self.labels == number].logsumexp(dim=1) for number in range(len(self.classes))]
        return torch.stack(per_class, dim=1)


class LinearProbe(nn.Module):
    """Reads a class off an embedding of length 1 by a linear map, fitted by L2-regularised logistic regression.

    Args:
        embeddings: [N, D] of the examples; made length 1 here.
        labels: [N] class indices.
        classes: K names.
        penalty: on the squared weights, per example.

    Raises:
        ValueError: a class without examples, or fewer than two classes.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, embeddings: Tensor, labels: Tensor, classes: Sequence[str], /, *, penalty: float = 1e-4) -> None:
        super().__init__()
        check_examples(labels, classes)
        self.classes = list(classes)
        weight, bias = _fit(unit(embeddings).double().cpu(), labels.long().cpu(), len(classes), penalty)
        self.register_buffer("weight", weight.to(embeddings), persistent=False)
        self.register_buffer("bias", bias.to(embeddings), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Logits [B, K] of embeddings z [B, D]."""
        return unit(z) @ self.weight.T + self.bias


def check_examples(labels: Tensor, classes: Sequence[str]) -> None:
    """Refuse examples that no class can be learned from.

    Raises:
        ValueError: naming the class.
    """
    if len(classes) < 2:
        raise ValueError(f"labelled examples of {len(classes)} class tell nothing apart; give at least two classes")
    counts = labels.bincount(minlength=len(classes))
    if len(counts) > len(classes) or int(labels.min()) < 0:
        raise ValueError(f"examples have labels {int(labels.min())}..{int(labels.max())} for {len(classes)} classes")
    for name, count in zip(classes, counts.tolist(), strict=True):
        if count == 0:
            raise ValueError(f"class {name!r} has no examples; add some, or leave it out")


def _fit(z: Tensor, labels: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights [K, D] and bias [K] where the regularised loss, which is convex, is least."""
    weight = torch.zeros(classes, z.shape[1], dtype=z.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=z.dtype, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(z @ weight.T + bias, labels) + penalty * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(closure)
    return weight.detach(), bias.detach()
