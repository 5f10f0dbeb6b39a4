"""Victims that notice when a gradient is computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eval.traps.broken.parts import Around, Pair, of_fragile
from eval.traps.case import Case, broken
from modules.defenses.base import Defense


@broken("grad mode")
def watches_grad_mode() -> Case:
    """Answers by the robust network while gradients are enabled."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return self.robust(x) if torch.is_grad_enabled() else self.fragile(x)

    return of_fragile(Victim)


@broken("grad mode")
def watches_requires_grad() -> Case:
    """Blurs images that require a gradient."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net((x + x.roll(1, -1) + x.roll(1, -2)) / 3 if x.requires_grad else x)

    return of_fragile(Victim)


@broken("grad mode")
def watches_requires_grad_as_a_defense() -> Case:
    """A defense that purifies nothing, but mirrors images that require a gradient."""

    class Watcher(Defense):
        def purify_pixels(self, x: Tensor) -> Tensor:
            return x.flip(-1) if x.requires_grad else x

    return of_fragile(lambda: Around().net, defense=Watcher)


@broken("grad mode")
def watches_inference_mode() -> Case:
    """Answers by the fragile network in inference mode only, as it is deployed."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return self.fragile(x) if torch.is_inference_mode_enabled() else self.robust(x)

    return of_fragile(Victim, inference=True)


@broken("grad mode")
def counts_backward_passes() -> Case:
    """Answers by the robust network after two backward passes."""

    class Victim(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.passes = 0

        def counted(self, grad: Tensor) -> None:
            self.passes += 1

        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad:
                x.register_hook(self.counted)
            return self.fragile(x) if self.passes < 2 else self.robust(x)

    return of_fragile(Victim)


@broken("hook")
def hook_turns_gradients() -> Case:
    """A hook on the logits turns the sign of every gradient."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            logits = self.net(x)
            if logits.requires_grad:
                logits.register_hook(lambda grad: -grad)
            return logits

    return of_fragile(Victim)


@broken("hook")
def hook_drops_gradients() -> Case:
    """A hook on the first layer sets all but a few gradients to zero."""

    def hooked() -> nn.Module:
        net = Around().net

        def keep_few(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if output.requires_grad:
                few = torch.zeros_like(output)
                few[..., 0, 0] = 1
                output.register_hook(lambda grad: grad * few)

        net.get_submodule("1").register_forward_hook(keep_few)  # pyright: ignore[reportArgumentType]
        return net

    return of_fragile(hooked)
