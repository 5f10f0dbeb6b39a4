"""Another machine's rounding, on this one: a plugin that finds tests which compare bits across kernels.

With ``python -m pytest -p tests.other_kernels`` the last bits of products, convolutions, attention, sums and
normalizations depend on the operation and the shapes it is given.  The same call made twice still gives the same bits,
as it does on any machine; other shapes, batches and kernels give others, as they do on some.  Results that are integers
are exact everywhere and stay as they are.  Processes that tests start round as this machine does.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

A = torch.ops.aten
ROUNDED = {
    *(A.mm, A.addmm, A.bmm, A.baddbmm, A.mv, A.addmv, A.dot, A.convolution, A.convolution_backward),
    *(A._scaled_dot_product_flash_attention_for_cpu, A._scaled_dot_product_flash_attention_for_cpu_backward),
    *(A._native_multi_head_attention, A._transformer_encoder_layer_fwd, A.native_layer_norm),
    *(A.native_layer_norm_backward, A._softmax, A._softmax_backward_data, A._log_softmax, A.logsumexp),
    *(A.sum, A.mean, A.var, A.var_mean, A.std, A.linalg_vector_norm, A.cumsum, A.cumprod),
}
LAST_BITS = {torch.float32: 4, torch.float64: 4}  # half precision is rounded once, from sums in single precision
MOST = 3000


class OtherKernels(TorchDispatchMode):
    """Changes the last bits of results by factors that depend on names and shapes alone."""

    def __init__(self) -> None:
        super().__init__()
        self._factors: dict[Any, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket not in ROUNDED or func._overloadname == "out":
            return found
        key = (str(func), tuple(_shapes(args)))
        if isinstance(found, Tensor):
            return self._rounded(found, key)
        return type(found)(self._rounded(part, key) for part in found)

    def _rounded(self, found: Any, key: tuple[Any, ...]) -> Any:
        if type(found) is not Tensor or not found.is_floating_point() or found.device.type != "cpu":
            return found
        key = (*key, tuple(found.shape), found.dtype)
        if key not in self._factors:
            if len(self._factors) >= MOST:
                self._factors.clear()
            generator = torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))
            most = LAST_BITS.get(found.dtype, 1)
            bits = torch.randint(-most, most + 1, found.shape, generator=generator)
            self._factors[key] = 1 + bits.to(found.dtype) * torch.finfo(found.dtype).eps
        return torch.where(found == found.round(), found, found * self._factors[key])


def _shapes(values: Sequence[Any]) -> Iterator[tuple[int, ...]]:
    for value in values:
        if isinstance(value, Tensor):
            yield tuple(value.shape)
        elif isinstance(value, (list, tuple)):
            yield from _shapes(value)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Run a test, and its fixtures, with the other rounding."""
    with OtherKernels():
        return (yield)
