"""The low-pass filter, against the textbook's transform."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from modules.defenses.low_pass import LowPass, blurred, low_pass
from tests.modules.toys import ConvEncoder, images


def centred(x: Tensor, radius: float) -> Tensor:
    """The filter as it is written down: shift the spectrum, damp it by distance from the centre, shift it back."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
    rows, columns = (torch.arange(n, dtype=x.dtype) - n // 2 for n in x.shape[-2:])
    distance2 = rows[:, None] ** 2 + columns[None, :] ** 2
    damped = spectrum * torch.exp(-distance2 / (2 * radius**2))
    return torch.fft.ifft2(torch.fft.ifftshift(damped, dim=(-2, -1))).real


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (10, 5)])
def test_it_is_the_centred_filter(shape: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(low_pass(x, 1.7), centred(x, 1.7), atol=1e-12)


def test_a_wave_is_damped_by_the_gain_of_its_frequency() -> None:
    wave = torch.cos(2 * math.pi * 3 * torch.arange(16) / 16).expand(1, 3, 16, 16)
    assert torch.allclose(low_pass(wave, 2.0), math.exp(-9 / 8) * wave, atol=1e-6)
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(low_pass(flat, 0.5), flat)


def test_a_blur_spreads_a_point_as_far_as_it_says() -> None:
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1.0
    spread = blurred(point, 2.5)[0, 0]
    offsets = torch.arange(33.0) - 16
    assert float((spread.sum(0) * offsets**2).sum()) == pytest.approx(2.5**2, rel=1e-3)


def test_the_radius_is_said_for_224_pixels() -> None:
    assert LowPass(ConvEncoder(size=224 // 2), radius=40.0).radius == 20.0
    with pytest.raises(ValueError, match=r"radius is 0\.0"):
        LowPass(ConvEncoder(), radius=0.0)


def test_half_precision_images_can_be_filtered() -> None:
    x = images(2).bfloat16()
    assert low_pass(x, 2.0).dtype == torch.bfloat16
    assert torch.allclose(low_pass(x, 2.0).float(), low_pass(x.float(), 2.0), atol=1e-2)
