"""How large the gradient of a step is, over all processes and before it is clipped."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor

from modules.lightning.sharding import local


@torch.no_grad()
def gradient_norm(trainer: pl.Trainer, module: pl.LightningModule) -> Tensor | None:
    """l2 norm of the whole gradient before a step, a scalar on the device; None where it was taken away.

    Processes that hold a gradient each hold the same one (DDP), those that hold parts add up the parts (FSDP2); every
    process must ask.  DeepSpeed's gradient is told by ``stepped_norm``.
    """
    grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if not grads:
        return None
    cut = [local(grad) for grad in grads if local(grad) is not grad]
    whole = [grad for grad in grads if local(grad) is grad]
    device = trainer.strategy.root_device
    squares = _squared(whole, device)
    if cut:
        squares = squares + trainer.strategy.reduce(_squared(cut, device), reduce_op="sum")
    return squares.sqrt()


def _squared(grads: list[Tensor], device: torch.device) -> Tensor:
    grads = [grad for grad in grads if grad.numel()]  # a process may have no part of a small weight
    if not grads:
        return torch.zeros((), device=device)
    return torch.nn.utils.get_total_norm(grads).to(device).float().square()


def keeps_gradients(trainer: pl.Trainer) -> bool:
    """Whether the strategy, DeepSpeed, keeps gradients to itself."""
    return trainer.strategy.handles_gradient_accumulation


def stepped_norm(trainer: pl.Trainer) -> float | None:
    """l2 norm, before it was clipped, of the gradient that DeepSpeed has just stepped with; None with others."""
    norm = getattr(getattr(trainer, "model", None), "get_global_grad_norm", lambda: None)()
    return None if norm is None else float(norm)
