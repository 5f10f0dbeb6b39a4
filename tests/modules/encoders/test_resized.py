from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from modules.defenses import TTC
from modules.encoders.base import ImageEncoder
from modules.encoders.resized import Resized


class Small(ImageEncoder):
    """A smooth encoder of 24 x 24 images."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim, self.image_size = 4, 24
        self.weights = nn.Parameter(torch.randn(3 * 24 * 24, 4, generator=torch.Generator().manual_seed(0)) / 40)

    def encode_image(self, x: Tensor) -> Tensor:
        assert x.shape[-2:] == (24, 24)
        return torch.tanh(x.flatten(1) @ self.weights.to(x.dtype))


def images(side: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("side", [8, 32, 96])
def test_antialiased_it_is_pillows_bicubic_within_rounding(side: int) -> None:
    x = images(side)
    own = Resized(Small(), size=side).enlarge(x)
    for image, expected in zip(own, x, strict=True):
        for plane, channel in zip(image, expected, strict=True):
            by_pillow = Image.fromarray(channel.numpy()).resize((24, 24), Image.Resampling.BICUBIC)
            assert np.abs(plane.numpy() - np.asarray(by_pillow)).max() < 1e-5


def cubic(distance: float, a: float) -> float:
    """Keys's kernel."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


@pytest.mark.parametrize(("antialias", "a"), [(True, -0.5), (False, -0.75)])
def test_the_two_bicubics_have_their_coefficients(antialias: bool, a: float) -> None:
    """An impulse in the middle of a long row, enlarged three times, is the kernel itself."""
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    x[..., :, 4] = 1.0
    row = Resized(Small(), size=8, antialias=antialias).enlarge(x)[0, 0, 12]
    expected = [cubic((i + 0.5) / 3 - 0.5 - 4, a) for i in range(24)]
    assert np.allclose(row[6:20].numpy(), expected[6:20], atol=1e-6)


@pytest.mark.parametrize("antialias", [True, False])
def test_the_gradient_at_the_small_size_is_that_of_finite_differences(antialias: bool) -> None:
    encoder = Resized(Small(), size=6, antialias=antialias)
    x = images(6, 1).double().requires_grad_()

    def loss(pixels: Tensor) -> Tensor:
        return encoder.encode_image(pixels).square().sum()

    (gradient,) = torch.autograd.grad(loss(x), x)
    step = 1e-6
    for i in range(0, x.numel(), 5):
        away = torch.zeros(x.numel(), dtype=torch.float64)
        away[i] = step
        away = away.view_as(x)
        with torch.no_grad():
            slope = (loss(x + away) - loss(x - away)) / (2 * step)
        assert abs(slope - gradient.flatten()[i]) < 1e-7


def test_a_defended_small_encoder_perturbs_at_the_small_size() -> None:
    encoder = Resized(Small(), size=8)
    assert (encoder.image_size, encoder.embedding_dim) == (8, 4)
    defended = TTC(encoder.freeze(), steps=1)
    assert defended.purify_pixels(images(8)).shape == (2, 3, 8, 8)
    assert defended.encode_image(images(8)).shape == (2, 4)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes images of 8 pixels a side, not \[2, 3, 9, 9\]"):
        Resized(Small(), size=8).encode_image(images(9))
