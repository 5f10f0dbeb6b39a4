"""Vendors' peak rates: what a GPU could do at its best, by which a training's rate is measured."""

from __future__ import annotations

PEAK_TFLOPS = {"a100": 312.0, "h100": 989.0, "h200": 989.0, "l40s": 362.0, "v100": 125.0}
"""Dense peak rates of matrix products: bfloat16, of the V100 half precision; H100 and H200 as SXM."""

_OTHERS = ("mig", "pcie", "nvl", "gh200")  # parts of a GPU, and versions with other peaks
_SAME_AS_PCIE = ("a100",)
_HALF = ("bf16-mixed", "16-mixed")


def peak_of_device(name: str, precision: str) -> float | None:
    """Peak rate in TFLOP/s of a GPU by the name that its driver says; None where it is not known.

    Args:
        name: such as ``NVIDIA A100-SXM4-80GB``.
        precision: Lightning's word; no peak is known for ``32-true``, nor for bfloat16 on a V100.
    """
    said = name.lower().replace("-", " ")
    words = said.split()
    known = next((gpu for gpu in PEAK_TFLOPS if gpu in words), None)
    if known is None or precision not in _HALF or (known == "v100" and precision != "16-mixed"):
        return None
    others = set(_OTHERS) - ({"pcie"} if known in _SAME_AS_PCIE else set())
    return None if others & set(words) else PEAK_TFLOPS[known]
