from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork


@pytest.fixture
def tiny() -> Callable[..., DiffusionPrior]:
    """Builds a float64 prior of width 32, with gains that differ from their start."""

    def build(network: dict[str, Any] | None = None, **prior: Any) -> DiffusionPrior:
        torch.manual_seed(0)
        shape: dict[str, Any] = {
            "dim": 32,
            "depth": 2,
            "heads": 2,
            "dim_head": 16,
            "max_text_len": 6,
            "num_timesteps": 50,
        }
        built = DiffusionPrior(PriorNetwork(**{**shape, **(network or {})}), NoiseSchedule(timesteps=50), **prior)
        for name, parameter in built.named_parameters():
            if name.endswith(".g"):
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        return built.double().eval()

    return build


@pytest.fixture
def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Image and text embeddings [4, 32] and token states [4, 5, 32] of different lengths."""
    generator = torch.Generator().manual_seed(1)
    image, text, tokens = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 32), (4, 32), (4, 5, 32))
    )
    for i, length in enumerate((5, 3, 1, 4)):
        tokens[i, length:] = 0
    return image, text, tokens
