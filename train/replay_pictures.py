"""Pictures of the worst samples of a step: clean, perturbed, and what the attack added."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from configs.files import write_atomically

_SIDE, _GAP, _LINE = 192, 8, 18  # pixels
_TITLES = ("clean", "perturbed", "difference, largest = full")


def write_pictures(path: Path, rows: Sequence[tuple[str, Tensor, Tensor]]) -> None:
    """Write one picture: a row per sample, under its name.

    Args:
        path: of the PNG.
        rows: name, clean and perturbed picture, both [3, H, W] in [0, 1]; what is not finite is shown in magenta.
    """
    height = _LINE + len(rows) * (_LINE + _SIDE + _GAP)
    sheet = Image.new("RGB", (_GAP + 3 * (_SIDE + _GAP), height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(_TITLES):
        draw.text((_GAP + column * (_SIDE + _GAP), 2), title, fill="black")
    for number, (name, clean, perturbed) in enumerate(rows):
        top = _LINE + number * (_LINE + _SIDE + _GAP)
        draw.text((_GAP, top), name.encode("ascii", "replace").decode(), fill="black")
        for column, x in enumerate((clean, perturbed, difference(clean, perturbed))):
            sheet.paste(_shown(x), (_GAP + column * (_SIDE + _GAP), top + _LINE))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def difference(clean: Tensor, perturbed: Tensor) -> Tensor:
    """[3, H, W] grey where nothing was added; the largest finite change becomes black or white."""
    delta = (perturbed - clean).float()
    largest = delta.nan_to_num(0.0, 0.0, 0.0).abs().max().clamp_min(1e-12)
    return 0.5 + 0.5 * delta / largest


def _shown(x: Tensor) -> Image.Image:
    x = x.detach().float().cpu()
    broken = ~x.isfinite().all(dim=0)
    x = torch.where(broken, torch.tensor([1.0, 0.0, 1.0])[:, None, None], x.nan_to_num()).clamp(0, 1)
    pixels = (x.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
