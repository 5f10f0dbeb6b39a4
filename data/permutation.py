"""Permutations without a table: a keyed bijection of 0 .. n-1 that is computed where it is asked for."""

from __future__ import annotations

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 8


def permute(value: np.ndarray, key: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """[M] uint64: where each value of 0 .. n-1 goes; one key is one bijection.

    A balanced Feistel network permutes the smallest power of four that holds n; values outside
    0 .. n-1 walk on along their cycle until they fall inside, which keeps the map a bijection.

    Args:
        value: [M] uint64, each below its n.
        key: [M] uint64.
        n: one number, or [M] uint64; at least 1.
    """
    sizes = np.broadcast_to(np.asarray(n, dtype=np.uint64), value.shape)
    half = _half_bits(sizes)
    moved = _feistel(value, key, half)
    while (outside := np.flatnonzero(moved >= sizes)).size:
        moved[outside] = _feistel(moved[outside], key[outside], half[outside])
    return moved


def keys_of(seed: int, *counters: np.ndarray) -> np.ndarray:
    """[M] uint64 keys: a hash of the seed and of each counter in turn ([M] uint64)."""
    key = np.full_like(counters[0], seed % 2**64)
    for counter in counters:
        key = mix(mix(key) ^ (counter + np.uint64(1)) * GOLDEN)
    return key


def mix(z: np.ndarray) -> np.ndarray:
    """Splitmix64's finaliser; unsigned 64-bit arithmetic wraps around."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _feistel(value: np.ndarray, key: np.ndarray, half: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = value >> half, value & mask
    for step in range(_ROUNDS):
        tweak = mix(key + np.uint64(step))
        left, right = right, left ^ (mix(right ^ tweak) & mask)
    return (left << half) | right


def _half_bits(n: np.ndarray) -> np.ndarray:
    """Half the bits of the smallest power of four that holds n, at least 1."""
    sizes, place = np.unique(n, return_inverse=True)
    half = [max(1, ((int(size) - 1).bit_length() + 1) // 2) for size in sizes]
    return np.array(half, dtype=np.uint64)[place]
