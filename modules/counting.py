"""Floating-point operations and kept activations of a piece of work, counted without weights, data or a device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

M = TypeVar("M", bound=nn.Module)


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of ``work``, a multiplication and an addition counting as two.

    Matrix products, convolutions and attention are counted, nothing else; on tensors without storage they are not
    computed.  A normalisation or an activation costs time but hardly any operations.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    counter.mod_tracker = cast(Any, _Total())
    with whole_attention(), counter:
        work()
    return counter.get_total_flops()


def _convolution_backward(grad: Any, x: Any, weight: Any, *settings: Any, out_shape: Any = None, **_: Any) -> int:
    """Each gradient asked for costs what the pass forwards did; torch forgets the groups."""
    wanted, transposed = settings[-1], bool(settings[4])
    outputs = x if transposed else grad
    return (bool(wanted[0]) + bool(wanted[1])) * 2 * prod(outputs[:1]) * prod(outputs[2:]) * prod(weight)


def _attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


_FORMULAS = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""What torch counts wrongly, or not at all."""


class _Total:
    """Where operations are booked: all in one place.  Torch's books by module refuse gradients of pixels alone."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@contextmanager
def whole_attention() -> Iterator[None]:
    """Attention as its parts, in evaluation mode too, where torch has one operation that nobody counts."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def kept_bytes(work: Callable[[], Tensor], owners: list[nn.Module]) -> int:
    """Bytes that the pass forwards keeps for the pass backwards; weights do not count, and what is shared counts once.

    Args:
        work: the pass forwards.
        owners: of the weights.
    """
    own = {id_of(tensor) for owner in owners for tensor in (*owner.parameters(), *owner.buffers())}
    kept: dict[int, Tensor] = {}  # the tensors are held, so that no number is given to two

    def pack(tensor: Tensor) -> Tensor:
        kept.setdefault(id_of(tensor), tensor)
        return tensor

    with whole_attention(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = work()
    del answer
    return sum(tensor.untyped_storage().nbytes() for name, tensor in kept.items() if name not in own)


def id_of(tensor: Tensor) -> int:
    """A number of the memory that a tensor looks at."""
    return tensor.untyped_storage()._cdata


def growth(kept: Callable[[int], int]) -> tuple[int, int]:
    """Bytes per sample and bytes in any case, from the bytes of one sample and of two.

    The latter are copies of weights in half precision, made once a pass.
    """
    one, two = kept(1), kept(2)
    return two - one, max(2 * one - two, 0)


def imaginary(module: M) -> M:
    """A copy whose tensors have no values; to be called inside ``imagined``.

    Args:
        module: on any device, ``meta`` too.
    """
    with unset_fake_temporarily():
        copied = copy.deepcopy(module)
    made: dict[int, Tensor] = {}  # tensors that two modules share stay shared

    def empty(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            shape = torch.empty(tensor.shape, dtype=tensor.dtype)
            is_weight = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(shape, requires_grad=tensor.requires_grad) if is_weight else shape
        return made[id(tensor)]

    for part in copied.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: empty(tensor) for name, tensor in held.items() if tensor is not None})  # pyright: ignore
    return copied


@contextmanager
def imagined(precision: str = "32-true") -> Iterator[None]:
    """Tensors on the CPU have shapes and no values inside, and are computed with in a recipe's precision.

    Args:
        precision: Lightning's word.
    """
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None),
    ):
        yield


def on_meta(module: M) -> M:
    """A copy on the device ``meta``: it has shapes, and neither values nor memory.

    Args:
        module: its weights are whole; they are not copied.
    """
    tensors = (*module.parameters(), *module.buffers())
    bare: dict[int, Any] = {}
    for tensor in tensors:
        empty = torch.empty_like(tensor, device="meta")
        is_weight = isinstance(tensor, nn.Parameter)
        bare[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_weight else empty
    return copy.deepcopy(module, bare)
