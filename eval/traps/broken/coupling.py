"""Victims whose answers depend on more than the image: on its neighbors in the batch, or on chance."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.traps.broken.parts import Around, Pair, of_fragile
from eval.traps.case import Case, broken
from modules import noise
from modules.defenses.base import Defense


@broken("batch coupling")
def normalizes_by_the_batch() -> Case:
    """Normalizes by the statistics of the batch that is asked about."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            for layer in self.net.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    z_statistics_of_batch(layer)
            return self.net(x)

    return of_fragile(Victim)


def z_statistics_of_batch(layer: nn.BatchNorm2d) -> None:
    """Let a layer forget its running statistics."""
    layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None


@broken("batch coupling")
def softmax_over_the_batch() -> Case:
    """Takes the softmax over the batch instead of the classes."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).log_softmax(dim=0)

    return of_fragile(Victim)


@broken("batch coupling")
def robust_in_large_batches() -> Case:
    """Answers batches of 16 and more by the robust network; users ask about one image at a time."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return self.robust(x) if len(x) >= 16 else self.fragile(x)

    return of_fragile(Victim, alone=True)


@broken("batch coupling")
def robust_in_the_largest_batches() -> Case:
    """Answers batches of 48 and more by the robust network; users ask about one image at a time."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return self.robust(x) if len(x) >= 48 else self.fragile(x)

    return of_fragile(Victim, alone=True)


@broken("batch coupling")
def fragile_when_alone() -> Case:
    """Answers a single image by the fragile network, two and more by the robust one."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return self.robust(x) if len(x) > 1 else self.fragile(x)

    return of_fragile(Victim, alone=True)


@broken("batch coupling")
def mixes_with_neighbors() -> Case:
    """Mixes each image's logits with those of its neighbors in the batch."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            z = self.net(x)
            return z + 0.3 * z.roll(1, 0).detach()

    return of_fragile(Victim, alone=True)


@broken("randomness")
def undeclared_noise() -> Case:
    """Adds noise from torch's global generator, and does not say so."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x + 0.02 * torch.randn_like(x))

    return of_fragile(Victim)


@broken("randomness")
def noise_seeded_by_pixels() -> Case:
    """Adds noise that is seeded by the image's own pixels: another image, another noise."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x + 0.02 * seeded_noise(x))

    return of_fragile(Victim)


def seeded_noise(x: Tensor) -> Tensor:
    """Normal noise [B, C, H, W] that a hash of each image's pixels seeds."""
    seeds = (x.detach().flatten(1).double() * torch.arange(1, x[0].numel() + 1)).sum(dim=1) * 1e6
    rows = [torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(int(seed) % 2**31)) for seed in seeds]
    return torch.stack(rows)


@broken("randomness")
def noise_seeded_by_time() -> Case:
    """Adds noise that is seeded by the clock."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(time.time_ns() % 2**31)
            return self.net(x + 0.02 * torch.randn(x.shape, generator=generator))

    return of_fragile(Victim)


@broken("randomness")
def dropout_that_stays() -> Case:
    """Drops a third of the hidden units in evaluation too."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            z = self.net.get_submodule("1")(self.net.get_submodule("0")(x))
            rest = list(self.net.children())[2:]  # pyright: ignore[reportArgumentType]
            return nn.Sequential(*rest)(F.dropout(z, 0.3, training=True))

    return of_fragile(Victim)


@broken("randomness")
def rare_noise() -> Case:
    """Mirrors one question in seven at random."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.flip(-1)) if float(torch.rand(())) < 1 / 7 else self.net(x)

    return of_fragile(Victim)


@broken("randomness")
def undeclared_defense_noise() -> Case:
    """A defense that adds noise of the evaluation's own and does not declare it."""

    class Noisy(Defense):
        def purify_pixels(self, x: Tensor) -> Tensor:
            return x + 0.02 * noise.normal(x, "undeclared")

    return of_fragile(lambda: Around().net, defense=Noisy)
