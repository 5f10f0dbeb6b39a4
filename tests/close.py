"""Equality up to rounding.

Bits are compared only where both sides are the same tensors copied, saved or loaded, or the same call made twice: the
same kernels on the same shapes in one process.  Kernels differ with the CPU, the library's version, the number of rows
and of threads, and whether gradients are asked for; so does rounding.  Everything else is compared up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rounding(scale: float = 1.0, *, ops: int = 100, dtype: torch.dtype = torch.float32) -> float:
    """Return how far apart two ways of computing a number may end.

    Args:
        scale: largest magnitude on the way; 1 for a cosine distance, which is one minus a cosine, however small it is.
        ops: roundings of that magnitude that may add up.  A small network has about a dozen layers, and a sum of K
            terms in another order differs by about the square root of K of them.
        dtype: in which they were computed.
    """
    return ops * torch.finfo(dtype).eps * scale


def assert_close_to_rounding(actual: Tensor, expected: Tensor, *, ops: int = 100) -> None:
    """Assert that two tensors differ by rounding at most, measured by their largest value.

    Args:
        actual: of the same shape and dtype as ``expected``.
        expected: a tensor.
        ops: as in ``rounding``.
    """
    scale = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=rounding(scale, ops=ops, dtype=expected.dtype))
