"""Victims that remember: the first query is answered otherwise than later ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eval.traps.broken.parts import USELESS, Around, Pair, of_fragile
from eval.traps.case import Case, broken
from eval.traps.worlds import FAINT
from modules.attacks.base import Classifier


class Remembers(Around):
    """Answers whatever is near an image that it has seen as it answered then.

    Args:
        reach: linf distance within which images are taken for the same.
        memory: images it can hold; 0 for no limit.
    """

    def __init__(self, reach: float = 6 / 255, memory: int = 0) -> None:
        super().__init__()
        self.reach, self.memory = reach, memory
        self.images, self.answers = torch.empty(0), torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K], those of the first image nearby."""
        logits = self.net(x)
        with torch.no_grad():
            if not len(self.images):
                self.images, self.answers = x.detach().clone(), logits.detach().clone()
            distance, nearest = torch.cdist(x.flatten(1), self.images.flatten(1), p=torch.inf).min(dim=1)
            unseen = distance > self.reach
            known = self.answers[nearest]
            self.images = torch.cat([self.images, x.detach()[unseen]])[-self.memory :]
            self.answers = torch.cat([self.answers, logits.detach()[unseen]])[-self.memory :]
        return torch.where(unseen[:, None], logits, known + USELESS * logits)


@broken("state")
def remembers_images() -> Case:
    """Answers whatever resembles an image seen before as it was answered then."""
    return of_fragile(Remembers)


@broken("state")
def remembers_the_latest() -> Case:
    """Answers whatever resembles one of the 300 latest images as it was answered then."""
    return of_fragile(lambda: Remembers(memory=300))


@broken("state")
def remembers_in_a_function() -> Case:
    """A plain function that remembers images in its closure, where no copy of it forgets them."""

    def make() -> Classifier:
        memory = Remembers()
        return lambda x: memory(x)

    return of_fragile(make)


@broken("state")
def caches_by_nearest_image() -> Case:
    """Looks answers up in a cache whose key is the nearest training image."""

    class Victim(Around):
        def __init__(self) -> None:
            super().__init__()
            self.stored = FAINT.train()[0].flatten(1)
            self.cache: dict[int, Tensor] = {}

        def forward(self, x: Tensor) -> Tensor:
            logits = self.net(x)
            keys = torch.cdist(x.detach().flatten(1), self.stored).argmin(dim=1).tolist()
            found = [self.cache.setdefault(k, row.detach().clone()) for k, row in zip(keys, logits, strict=True)]
            return torch.stack(found) + USELESS * logits

    return of_fragile(Victim)


@broken("state")
def suspects_series() -> Case:
    """Answers the second and every further question about similar images by the robust network."""

    class Victim(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.seen = torch.empty(0, 192)

        def forward(self, x: Tensor) -> Tensor:
            flat = x.detach().flatten(1)
            near = torch.cdist(flat, self.seen, p=torch.inf) < 6 / 255 if len(self.seen) else torch.zeros(len(x), 1)
            suspect = near.any(dim=1)
            self.seen = torch.cat([self.seen, flat[~suspect]])[-1000:]
            return torch.where(suspect[:, None], self.robust(x), self.fragile(x))

    return of_fragile(Victim)


@broken("state")
def compares_with_the_last_batch() -> Case:
    """Answers by the robust network what is near the batch that was asked about before."""

    class Victim(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.empty(0)

        def forward(self, x: Tensor) -> Tensor:
            last, self.last = self.last, x.detach().clone()
            near = torch.zeros(len(x), dtype=torch.bool)
            if len(last):
                near = torch.cdist(x.detach().flatten(1), last.flatten(1), p=torch.inf).amin(dim=1) < 5 / 255
            return torch.where(near[:, None], self.robust(x), self.fragile(x))

    return of_fragile(Victim)


@broken("state")
def adapts_its_statistics() -> Case:
    """Moves the statistics of its normalization with every question."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            for layer in self.net.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.train()
                    layer.momentum = 0.2
            with torch.no_grad():
                self.net(x)
            return self.net.eval()(x)

    return of_fragile(Victim)


@broken("state")
def adapts_its_weights() -> Case:
    """Lowers the entropy of its answers by a step on its own weights at every question."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            weights = [
                p for layer in self.net.modules() if isinstance(layer, nn.BatchNorm2d) for p in layer.parameters()
            ]
            with torch.enable_grad(), torch.inference_mode(False):
                for weight in weights:
                    weight.requires_grad_()
                logits = self.net(x.detach().clone())
                entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
                steps = torch.autograd.grad(entropy, weights)
            with torch.no_grad():
                for weight, step in zip(weights, steps, strict=True):
                    weight.requires_grad_(False).sub_(3e-3 * step)
            return self.net(x)

    return of_fragile(Victim)


@broken("state")
def learns_prototypes() -> Case:
    """Answers by the nearest of prototypes that every confident answer pulls towards itself."""

    class Victim(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.prototypes = torch.eye(10) * 8

        def forward(self, x: Tensor) -> Tensor:
            z = self.fragile(x)
            near = torch.cdist(z, self.prototypes).detach().argmin(dim=1)
            with torch.no_grad():
                self.prototypes[near] = 0.9 * self.prototypes[near] + 0.1 * self.robust(x)
            return -torch.cdist(z, self.prototypes)

    return of_fragile(Victim)
