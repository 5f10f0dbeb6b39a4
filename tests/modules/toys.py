"""Small encoders and classifiers for tests: quick, smooth, and easy to reason about."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.encoders.base import ImageEncoder
from modules.zero_shot import ZeroShotClassifier, ZeroShotHead


class LinearEncoder(ImageEncoder):
    """f(x) = W vec(x): its gradients are known in closed form."""

    def __init__(self, dim: int = 12, size: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(dim, 3 * size * size, generator=generator) / size)
        self.embedding_dim, self.image_size = dim, size

    def encode_image(self, x: Tensor) -> Tensor:
        return x.flatten(1).to(self.weight.dtype) @ self.weight.T


class ConvEncoder(ImageEncoder):
    """Two convolutions and a projection: curved enough for attacks to differ."""

    def __init__(self, dim: int = 16, size: int = 8, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Conv2d(3, 12, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(12, 12, 3, stride=2, padding=1),
                nn.GELU(),
                nn.Flatten(),
                nn.Linear(12 * (size // 2) ** 2, dim),
            )
        self.embedding_dim, self.image_size = dim, size

    def encode_image(self, x: Tensor) -> Tensor:
        return self.body(x - 0.5)


def head(dim: int, classes: int = 6, seed: int = 1, scale: float = 20.0) -> ZeroShotHead:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(classes, dim, generator=generator)
    return ZeroShotHead(weights, [f"class {i}" for i in range(classes)], logit_scale=scale)


def classifier(encoder: ImageEncoder, classes: int = 6) -> ZeroShotClassifier:
    return ZeroShotClassifier(encoder, head(encoder.embedding_dim, classes)).eval()


def images(count: int = 8, size: int = 8, seed: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
