"""Memory of one GPU under each way of spreading a training over processes, as closed formulas."""

from __future__ import annotations

from dataclasses import dataclass

from launch.forecast.work import Work

WAYS: dict[str, tuple[str, ...]] = {
    "finetune": ("ddp", "zero1", "zero2", "fsdp2"),
    "perceptual": ("ddp",),
    "prior": ("ddp", "zero1", "zero2", "fsdp2", "zero3"),
}
LEFT_OUT = (
    "memory leaves out the CUDA context (about 0.5 GB), the allocator's gaps, buckets of communication, workspaces of "
    "kernels, and what an evaluation needs"
)


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU.

    Attributes:
        weights: the trained ones, in single precision, and their moving average.
        gradients: of them.
        states: of AdamW; with ZeRO the single-precision copy that it updates too.
        frozen: weights that are only read.
        activations: kept for the backward pass.
    """

    weights: float
    gradients: float
    states: float
    frozen: float
    activations: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.weights + self.gradients + self.states + self.frozen + self.activations


def memory_of(work: Work, way: str, *, processes: int, samples: int) -> Memory:
    """What each GPU holds at the end of a pass forwards, where it holds most.

    With N trained numbers and W processes: ``ddp`` 4N + 4N + 8N bytes; ``zero1`` shares AdamW's two averages and a copy
    of the weights, 12N/W; ``zero2`` the gradients too, 4N/W; ``zero3`` the weights too; ``fsdp2`` all of them, and
    holds the gathered weights besides, because every step of an attack reads them.

    Args:
        work: of the training.
        way: a strategy.
        processes: W, over all nodes.
        samples: on each GPU in one pass.
    """
    whole = 4.0 * work.parameters
    share = whole / processes
    average = whole if work.averaged else 0.0
    ways = {
        "ddp": (whole + average, whole, 2 * whole),
        "zero1": (whole + average, whole, 3 * share),
        "zero2": (whole + average, share, 3 * share),
        "zero3": (share + average / processes, share, 3 * share),
        "fsdp2": (share + whole + average / processes, share, 2 * share),
    }
    weights, gradients, states = ways[way]
    return Memory(weights, gradients, states, 4.0 * work.frozen, work.kept_once + samples * work.kept)
