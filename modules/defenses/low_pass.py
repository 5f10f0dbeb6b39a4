"""LPF: look at the image without its high frequencies."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.defenses.base import Defense
from modules.encoders.base import ImageEncoder

REFERENCE_SIZE = 224  # pixels a side of the images that the settings of published defences are for


def low_pass(x: Tensor, radius: float) -> Tensor:
    """x [B, C, H, W] with every frequency d damped by exp(-d^2 / (2 radius^2)); edges wrap around.

    Args:
        x: images.
        radius: in cycles per image.
    """
    height, width = x.shape[-2:]
    whole = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    down = torch.fft.fftfreq(height, 1 / height, device=x.device, dtype=whole.dtype)
    across = torch.fft.rfftfreq(width, 1 / width, device=x.device, dtype=whole.dtype)
    gain = torch.exp(-(down[:, None] ** 2 + across[None, :] ** 2) / (2 * radius**2))
    return torch.fft.irfft2(torch.fft.rfft2(whole) * gain, s=(height, width)).to(x.dtype)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x [B, C, H, W] under a Gaussian of standard deviation ``sigma`` pixels; edges wrap around."""
    return low_pass(x, x.shape[-1] / (2 * torch.pi * sigma))


def scaled_to(image_size: int, value: float) -> float:
    """A length said for images of 224 pixels a side, for images of ``image_size``."""
    return value * image_size / REFERENCE_SIZE


class LowPass(Defense):
    """A Gaussian filter in the frequency domain, cut to the box (the filter of CSR, ICML 2026).

    The radius is said for images of 224 pixels and shrinks with smaller ones, so that the same share of the spectrum
    passes at every size.

    Args:
        encoder: the encoder to defend.
        radius: standard deviation of the filter in cycles per image of 224 pixels a side.
    """

    def __init__(self, encoder: ImageEncoder, /, *, radius: float = 40.0) -> None:
        super().__init__(encoder)
        if radius <= 0:
            raise ValueError(f"radius is {radius}; a filter that lets something pass has a radius > 0")
        self.radius = scaled_to(encoder.image_size, radius)

    def purify_pixels(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W], filtered."""
        return low_pass(x, self.radius).clamp(0.0, 1.0)
