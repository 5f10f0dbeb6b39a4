"""A label-free attack: it takes an image's embedding as far away as it can."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from modules.attacks.apgd import APGD
from modules.attacks.base import Attack, Classifier, LabelLoss, Labels, Search
from modules.choices import check_choice
from modules.perturb.losses import Loss, cosine_distance, squared_l2
from modules.perturb.threat import Threat
from modules.zero_shot.classifier import ZeroShotClassifier

Distance = Literal["squared_l2", "cosine"]
_DISTANCES: dict[Distance, Callable[[Tensor, Tensor], Tensor]] = {"squared_l2": squared_l2, "cosine": cosine_distance}


def divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """[B] Kullback-Leibler divergence of the prediction of logits [B, K] from that of clean logits [B, K]."""
    before, now = clean.log_softmax(dim=1), logits.log_softmax(dim=1)
    return (before.exp() * (before - now)).sum(dim=1)


class EmbeddingAttack(Attack):
    """FARE's inner loss (arXiv:2402.12336, eq. 3) as an attack: the largest move of the embedding, by Auto-PGD.

    It knows neither labels nor classes, so a defence that holds only against label losses falls to it, and its images
    serve every task on the embedding.  Called against a classifier, it ascends the mean over the classifier's looks of
    the distance between a point's embedding and the image's own; the labels only decide which of the points it passes
    is kept.  A look that is no ``ZeroShotClassifier`` has no embedding to show: there the divergence of its prediction
    from the clean prediction (both softmax) takes the distance's place.

    Differs from FARE: the clean embedding is of the model under attack, not of the original, and the steps are
    Auto-PGD's.  ``perturb`` with any other loss is Auto-PGD.

    Args:
        threat: the ball.
        distance: ``squared_l2`` as FARE, or ``cosine``, which is what zero-shot heads read.
        steps: gradient steps.
        restarts: independent runs.
    """

    def __init__(
        self, threat: Threat, /, *, distance: Distance = "cosine", steps: int = 100, restarts: int = 1
    ) -> None:
        check_choice("distance", distance, Distance)
        super().__init__(threat, restarts=restarts)
        self.distance: Distance = distance
        self.steps = steps
        self._ascent = APGD(threat, steps=steps)

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """The divergence from the clean prediction, where there are no embeddings."""
        return [(divergence, (logits,))]

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        if not isinstance(loss, Search):
            return self._ascent.perturb(loss, x, stream)
        with self._aimed_at_embeddings(loss, x):
            return self._ascent.perturb(loss, x, stream)

    @contextmanager
    def _aimed_at_embeddings(self, search: Search, x: Tensor) -> Iterator[None]:
        """Let the search ascend distances of embeddings, seen while it asks its looks for logits."""
        looks, loss, labels = search.looks, search.loss, search.labels
        seen: deque[tuple[int, Tensor]] = deque()
        search.looks = tuple(_watched(look, number, seen) for number, look in enumerate(looks))
        with torch.no_grad():
            search.logits(x)
        search.labels = tuple(_spread(seen, number, search) for number in range(len(looks)))
        seen.clear()
        embedded = [_shows_embeddings(look) for look in looks]

        def moved(_: Tensor, *clean: Tensor) -> Tensor:
            number, z = seen.popleft()  # the search takes the losses in the order of its answers
            return (_DISTANCES[self.distance] if embedded[number] else divergence)(z, clean[number])

        search.loss = moved
        try:
            yield
        finally:
            search.looks, search.loss, search.labels = looks, loss, labels


def _shows_embeddings(look: Classifier) -> bool:
    return isinstance(look, ZeroShotClassifier)


def _watched(look: Classifier, number: int, seen: deque[tuple[int, Tensor]]) -> Classifier:
    """The same classifier, which also notes what it saw: embeddings, or logits where it has none."""

    def watched(x: Tensor) -> Tensor:
        if not isinstance(look, ZeroShotClassifier):
            logits = look(x)
            seen.append((number, logits))
            return logits
        logits, z = _logits_and_embedding(look, x)
        seen.append((number, z))
        return logits

    return watched


def _logits_and_embedding(model: ZeroShotClassifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [B, K] and the embeddings [B, D] they were read from, in one pass where that can be."""
    read: list[Tensor] = []

    def head(z: Tensor) -> Tensor:
        read.append(z)
        return model.head(z)

    logits = model.encoder.logits(x, head)
    # what votes over several looks, or passes a gradient round its own, is asked for its embedding by name
    whole = len(read) == 1 and len(read[0]) == len(x) and read[0].requires_grad == logits.requires_grad
    return logits, read[0] if whole else model.encoder.encode_image(x)


def _spread(seen: deque[tuple[int, Tensor]], number: int, search: Search) -> Tensor:
    """[B, D] mean over draws of what a look saw of the clean images, at the places of all images of the search."""
    mean = torch.stack([z for look, z in seen if look == number]).mean(dim=0)
    spread = mean.new_zeros(len(search.x), mean.shape[1])
    spread[search.index] = mean
    return spread
