"""Random numbers that belong to a sample, not to a batch.

Every draw is a hash of (seed, sample key, draw, stream, position): the same sample meets the same noise on any batch
size, order, worker and rank, and no global generator is read or moved.  The evaluation names its samples::

    with noise.samples(noise.keys_of(batch.key), seed=0, draw=3):
        z = defense.encode_image(x)

Code that is called outside such a scope gets keys made from the pixels themselves, so it is still deterministic.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MULTIPLIERS = (-4658895280553007687, -7723592293110705685)  # splitmix64's two odd constants


@dataclass(frozen=True)
class _Scope:
    keys: Tensor  # [B] int64
    seed: int
    draw: int


_scope: ContextVar[_Scope | None] = ContextVar("noise_scope", default=None)


def _mix(z: Tensor) -> Tensor:
    """Splitmix64's finaliser, element by element; int64 wraps around."""
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        z = (z ^ _logical_shift(z, shift)) * multiplier
    return z ^ _logical_shift(z, 31)


def _logical_shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def keys_of(names: Sequence[str], device: torch.device | str | None = None) -> Tensor:
    """[B] int64 keys of samples from their names."""
    return torch.tensor([_hash_text(name) for name in names], dtype=torch.int64, device=device)


def keys_of_pixels(x: Tensor) -> Tensor:
    """[B] int64 keys of samples from their content; x: [B, ...], any float dtype."""
    bits = x.detach().to(torch.float32).contiguous().view(torch.int32).flatten(1).to(torch.int64)
    weights = _mix(torch.arange(1, bits.shape[1] + 1, device=x.device) * _GOLDEN) | 1
    return _mix((bits * weights).sum(dim=1))


def scope() -> _Scope | None:
    """The names that hold here, for ``back_to``; None where no samples are named."""
    return _scope.get()


@contextmanager
def back_to(scope: _Scope | None) -> Iterator[None]:
    """The names, or the lack of them, of where ``scope`` was caught."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


@contextmanager
def samples(keys: Tensor, *, seed: int = 0, draw: int = 0) -> Iterator[None]:
    """Name the samples of the batches inside: keys [B] int64, the run's seed, which draw of the noise."""
    with back_to(_Scope(keys, seed, draw)):
        yield


@contextmanager
def subset(index: Tensor) -> Iterator[None]:
    """Narrow the named samples to ``index`` ([B'] int64 or [B] bool); nothing where none are named."""
    outer = _scope.get()
    with back_to(outer and replace(outer, keys=outer.keys[index.to(outer.keys.device)])):
        yield


@contextmanager
def lanes(x: Tensor, lane: Tensor) -> Iterator[None]:
    """Tell apart rows that are the same sample; unnamed samples are named by the pixels of x [B, ...].

    Args:
        x: the batch.
        lane: [B] int64, a row's number among those of its sample; lane 0 meets the noise of the sample itself.
    """
    outer = _scope.get() or _Scope(keys_of_pixels(x), 0, 0)
    lane = lane.to(outer.keys.device)
    keys = torch.where(lane > 0, _mix(outer.keys ^ _mix(lane * _GOLDEN)), outer.keys)
    with back_to(replace(outer, keys=keys)):
        yield


@contextmanager
def parts(numbers: Sequence[int]) -> Iterator[None]:
    """Name several pictures of each named sample, sample by sample; nothing where none are named.

    Args:
        numbers: of a sample's pictures that the batches inside hold; B samples make B * len(numbers) pictures.
    """
    outer = _scope.get()
    salts = [_hash_text(f"picture {number}") for number in numbers]
    with back_to(outer and replace(outer, keys=_salted(outer.keys, salts))):
        yield


def _salted(keys: Tensor, salts: Sequence[int]) -> Tensor:
    return _mix(keys[:, None] ^ torch.tensor(salts, dtype=torch.int64, device=keys.device)).flatten()


@contextmanager
def redraw(x: Tensor, draw: int) -> Iterator[None]:
    """Go to another draw of the same samples; unnamed samples are named by the pixels of x [B, ...]."""
    scope = _scope.get() or _Scope(keys_of_pixels(x), 0, 0)
    with back_to(replace(scope, draw=draw)):
        yield


def _bits(x: Tensor, shape: Sequence[int], stream: str) -> Tensor:
    scope = _scope.get()
    if scope is None:
        scope = _Scope(keys_of_pixels(x), 0, 0)
    if len(scope.keys) != len(x):
        raise ValueError(
            f"{len(scope.keys)} samples are named but the batch has {len(x)}; narrow them with noise.subset"
        )
    salt = _hash_text(f"{scope.seed}/{scope.draw}/{stream}")
    base = _mix(_mix(scope.keys.to(x.device) ^ salt))
    counter = torch.arange(1, math.prod(shape) + 1, device=x.device) * _GOLDEN
    return _mix(base[:, None] + counter[None, :]).view(len(x), *shape)


def uniform(x: Tensor, stream: str, shape: Sequence[int] | None = None) -> Tensor:
    """[B, *shape] uniform in [0, 1), one independent row per sample of the batch x [B, ...].

    Args:
        x: the batch; gives the number of samples, the device, the dtype, and ``shape`` where none is said.
        stream: what the numbers are for; different streams are independent.
        shape: of one sample's numbers.
    """
    bits = _bits(x, x.shape[1:] if shape is None else shape, stream)
    return (_logical_shift(bits, 40).to(torch.float32) * 2.0**-24).to(x.dtype)


def normal(x: Tensor, stream: str, shape: Sequence[int] | None = None) -> Tensor:
    """[B, *shape] standard normal (Box-Muller); arguments as in ``uniform``."""
    bits = _bits(x, x.shape[1:] if shape is None else shape, stream)
    radius = (_logical_shift(bits, 40).to(torch.float32) + 0.5) * 2.0**-24
    angle = (bits & 0xFFFFFF).to(torch.float32) * (2 * math.pi * 2.0**-24)
    return (torch.sqrt(-2 * torch.log(radius)) * torch.cos(angle)).to(x.dtype)


def integers(x: Tensor, stream: str, low: int, high: int, shape: Sequence[int] = ()) -> Tensor:
    """[B, *shape] integers, uniform in low..high inclusive; arguments as in ``uniform``."""
    bits = _logical_shift(_bits(x, shape, stream), 1)
    return low + bits % (high - low + 1)
