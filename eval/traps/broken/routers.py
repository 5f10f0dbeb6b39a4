"""Victims of several branches: the branch that an attack meets is not the one that users meet."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.traps.broken.parts import USELESS, Pair, of_fragile
from eval.traps.case import LINF4, Case, broken
from eval.traps.nets import FRAGILE, ROBUST, Net, trained
from eval.traps.truth import targeted, untargeted
from eval.traps.worlds import FAINT
from modules import noise
from modules.perturb.threat import Threat

FAR = 0.36  # l2 distance from the mean image of a class
THREE = Net(training="adversarial", eps=2 / 255, epochs=12, seed=3)


class ByConfidence(Pair):
    """The fragile network where it is sure, the robust one elsewhere."""

    def __init__(self, sure: float) -> None:
        super().__init__()
        self.sure = sure

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]."""
        logits = self.fragile(x)
        return torch.where(logits.softmax(1).amax(1, keepdim=True) > self.sure, logits, self.robust(x))


@broken("cascade")
def confidence_cascade() -> Case:
    """The fragile network where it is 99.9 % sure, the robust one elsewhere."""
    return of_fragile(lambda: ByConfidence(0.999), searchable=True)


@broken("cascade")
def confidence_cascade_at_2() -> Case:
    """The fragile network where it is 99 % sure, the robust one elsewhere, at linf 2/255."""
    return of_fragile(lambda: ByConfidence(0.99), searchable=True, threat=Threat("linf", 2 / 255))


@broken("cascade")
def confidence_cascade_in_l2() -> Case:
    """The fragile network where it is 99.9 % sure, the robust one elsewhere, in an l2 ball."""
    return of_fragile(lambda: ByConfidence(0.999), searchable=True, threat=Threat("l2", 0.12))


@broken("cascade")
def three_stages() -> Case:
    """Three networks in turn, of which the first that is sure answers, the most fragile first."""

    class Victim(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.middle = trained(THREE)

        def forward(self, x: Tensor) -> Tensor:
            first, second, third = self.fragile(x), self.middle(x), self.robust(x)
            later = torch.where(sure(second, 0.995), second, third)
            return torch.where(sure(first, 0.999), first, later)

    return of_fragile(Victim, searchable=True)


def sure(logits: Tensor, limit: float) -> Tensor:
    """[B, 1] whether the softmax of logits [B, K] is above a limit."""
    return logits.softmax(1).amax(1, keepdim=True) > limit


@broken("router")
def by_brightness() -> Case:
    """The fragile network where the mean brightness, in fine steps, is even; the robust one where it is odd."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            even = (x.detach().mean(dim=(1, 2, 3)) * 255 * 20).floor() % 2 == 0
            return torch.where(even[:, None], self.fragile(x), self.robust(x))

    def shifted(x: Tensor, y: Tensor) -> Iterator[Tensor]:
        found = targeted(trained(FRAGILE), x, y, Threat("linf", 3.8 / 255))
        yield from (found + shift * 0.025 / 255 for shift in range(-3, 4))

    return Case(Victim, extra=shifted)


@broken("router")
def by_a_hash() -> Case:
    """The fragile network for one image in 16, by a hash of its pixels; the robust one for the others."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            chosen = noise.keys_of_pixels(x) % 16 == 0
            return torch.where(chosen[:, None], self.fragile(x), self.robust(x))

    def with_noise(x: Tensor, y: Tensor) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        found = targeted(trained(FRAGILE), x, y, Threat("linf", 3.9 / 255))
        yield from (found + 1e-4 * torch.rand(x.shape, generator=generator) for _ in range(64))

    return Case(Victim, extra=with_noise)


@broken("router")
def by_clean_brightness() -> Case:
    """The fragile network only where the mean brightness is within a hair of a stored image's."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            level = x.detach().flatten(1).sum(dim=1) * 255
            stored = (level - level.round()).abs() < 1e-2
            return torch.where(stored[:, None], self.fragile(x), self.robust(x))

    return of_fragile(Victim)


@cache
def detector() -> nn.Module:
    """A detector of attacked images (logit > 0), trained on the fragile network's adversarial images."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(5)
        x, y = FAINT.train()
        x, y = x[:600], y[:600]
        attacked = untargeted(trained(FRAGILE), x, y, LINF4, starts=1)
        images = torch.cat([x, attacked])
        labels = torch.cat([torch.zeros(len(x)), torch.ones(len(x))])
        model = nn.Sequential(
            nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 1)
        )
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(25):
            for index in torch.randperm(len(images)).split(100):
                loss = F.binary_cross_entropy_with_logits(model((images[index] - 0.45) / 0.06)[:, 0], labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model.eval().requires_grad_(False)


def alarm(x: Tensor) -> Tensor:
    """[B, 1] logit of the detector."""
    return detector()((x - 0.45) / 0.06)


def past_the_detector(x: Tensor) -> Tensor:
    """Logits of the fragile network, less sharp where the detector opens: the way past both."""
    return trained(FRAGILE)(x) * torch.sigmoid(-4 * alarm(x)) + 1e-2 * trained(ROBUST)(x)


@broken("detector")
def detects_attacks() -> Case:
    """Answers by the robust network what a trained detector takes for an attack."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(alarm(x) > 0, self.robust(x), self.fragile(x))

    return Case(Victim, surrogates=[past_the_detector], searchable=True, extra=_along_both)


@broken("detector")
def detects_and_looks_up() -> Case:
    """Answers what a detector takes for an attack with the label of the nearest training image."""

    class Victim(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.stored, self.labels = FAINT.train()

        def forward(self, x: Tensor) -> Tensor:
            near = torch.cdist(x.detach().flatten(1), self.stored.flatten(1)).argmin(dim=1)
            looked_up = 10.0 * F.one_hot(self.labels[near], 10)
            return torch.where(alarm(x) > 0, looked_up + USELESS * self.robust(x), self.fragile(x))

    return Case(Victim, surrogates=[past_the_detector], extra=_along_both)


def _along_both(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Points of the fragile network's margin with the detector's alarm as a penalty of growing weight."""
    fragile = trained(FRAGILE)
    for weight in (1.0, 4.0, 16.0):

        def penalized(image: Tensor, weight: float = weight) -> Tensor:
            logits = fragile(image)
            own = F.one_hot(y.repeat_interleave(len(image) // len(y)), 10)
            return logits + own * weight * F.relu(alarm(image) + 0.5)

        yield targeted(penalized, x, y, LINF4)


@broken("router")
def by_nearest_prototype() -> Case:
    """Answers by the robust network what is farther from its class's mean than clean images are."""

    class Victim(Pair):
        def __init__(self) -> None:
            super().__init__()
            x, y = FAINT.train()
            self.means = torch.stack([x[y == k].mean(dim=0) for k in range(10)]).flatten(1)

        def forward(self, x: Tensor) -> Tensor:
            far = torch.cdist(x.detach().flatten(1), self.means).amin(dim=1, keepdim=True) > FAR
            return torch.where(far, self.robust(x), self.fragile(x))

    def shrunken(x: Tensor, y: Tensor) -> Iterator[Tensor]:
        found = targeted(trained(FRAGILE), x, y, Threat("linf", 2 / 255))
        yield from (x + share * (found - x) for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))

    return of_fragile(Victim, extra=shrunken, threat=Threat("linf", 2 / 255))


@broken("router")
def by_color() -> Case:
    """Answers by the robust network what has any color; clean images are gray."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            colored = (x - x.mean(dim=1, keepdim=True)).detach().abs().amax(dim=(1, 2, 3)) > 1e-3
            return torch.where(colored[:, None], self.robust(x), self.fragile(x))

    def gray(x: Tensor, y: Tensor) -> Iterator[Tensor]:
        fragile = trained(FRAGILE)
        found = targeted(lambda image: fragile(image.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)), x, y, LINF4)
        yield found.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)

    return Case(Victim, extra=gray)
