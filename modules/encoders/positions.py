"""A tower's positions for another resolution than it was trained at."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def resize_positions(visual: Any, size: int, *, name: str) -> None:
    """Have an image tower of open_clip or timm take images of size x size pixels.

    Learned positions are interpolated (bicubic, antialiased, the class token's left alone), as open_clip does it for
    its ViTs while weights are loaded; its ResNets' attention pool it does not resize at all.

    Args:
        visual: the tower, changed in place.
        size: H = W in pixels.
        name: of the model, for errors.

    Raises:
        ValueError: the architecture cannot take that size.
    """
    kind = type(visual).__name__
    if hasattr(visual, "set_input_size"):  # timm's towers, bare or in open_clip's adapter
        try:
            visual.set_input_size((size, size))
        except Exception as error:  # many kinds: each has demands of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"model {name!r} cannot take images of {size} pixels: {reason}") from error
    elif kind == "ModifiedResNet":
        steps = 32
        _check(name, size, steps)
        pool = visual.attnpool
        side = round((len(pool.positional_embedding) - 1) ** 0.5)
        pool.positional_embedding = _resized(pool.positional_embedding, (side, side), (size // steps, size // steps))
        visual.image_size = size
    elif kind == "VisionTransformer":
        patch = visual.patch_size[0]
        _check(name, size, patch)
        grid = (size // patch, size // patch)
        visual.positional_embedding = _resized(visual.positional_embedding, visual.grid_size, grid)
        visual.image_size, visual.grid_size = (size, size), grid
    if hasattr(visual, "preprocess_cfg"):
        visual.preprocess_cfg["size"] = (size, size)


def _check(name: str, size: int, step: int) -> None:
    if size < step or size % step:
        near = max(step, round(size / step) * step)
        raise ValueError(
            f"model {name!r} sees images in steps of {step} pixels; say model.image_size={near}, not {size}"
        )


def _resized(positions: nn.Parameter, old: tuple[int, int], new: tuple[int, int]) -> nn.Parameter:
    """[1 + H' W', C] positions for a new grid, of [1 + H W, C]: class token first."""
    if tuple(old) == tuple(new):
        return positions
    first, rest = positions[:1], positions[1:]
    grid = rest.reshape(1, *old, -1).permute(0, 3, 1, 2)
    spread: Tensor = F.interpolate(grid, size=new, mode="bicubic", antialias=True, align_corners=False)
    return nn.Parameter(torch.cat([first, spread.flatten(2)[0].T]), requires_grad=positions.requires_grad)
