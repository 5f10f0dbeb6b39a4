"""TTE, test-time transformation ensembling (ICCV workshops 2021): several looks at the image, averaged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.defenses.base import Defense
from modules.defenses.low_pass import blurred
from modules.defenses.smooth import variant
from modules.encoders.base import ImageEncoder


def crop(x: Tensor, origin: tuple[int, int], pad: int) -> Tensor:
    """The part [B, C, H, W] of zero-padded x that starts at ``origin`` (row, column; 0 .. 2 pad)."""
    height, width = x.shape[-2:]
    top, left = origin
    return F.pad(x, [pad] * 4)[..., top : top + height, left : left + width]


class TTE(Defense):
    """Averages the embeddings of the image, its mirror image, some crops and the crops' mirror images.

    Against the released code: the crops differ (a late-binding slip made all of them equal the last one), their
    padding scales with the image (4 of 32 pixels), and normalised embeddings are averaged instead of logits.  Logits
    are scaled cosines, so the class is the same; only their common scale differs.

    Args:
        encoder: the encoder to defend.
        flip: look at the mirror image.
        crops: number of shifted crops; their origins are drawn once, for all images, as in the paper.
        flip_crops: look at the crops' mirror images.
        pad: zeros on every side before cropping, as a fraction of the image's side.
        blur: standard deviation of one more, blurred look in pixels; 0 for none (strength ours).
        seed: of the origins.
        legacy_bug: all crops equal the last one, as released; labelled as an artefact.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        /,
        *,
        flip: bool = True,
        crops: int = 4,
        flip_crops: bool = True,
        pad: float = 0.125,
        blur: float = 0.0,
        seed: int = 0,
        legacy_bug: bool = False,
    ) -> None:
        super().__init__(encoder)
        if crops < 0 or not 0 <= pad < 1 or blur < 0:
            raise ValueError(f"TTE takes crops >= 0, pad in [0, 1) and blur >= 0, not {crops}, {pad}, {blur}")
        self.flip, self.flip_crops, self.blur = flip, flip_crops, blur
        self.pad = round(pad * encoder.image_size)
        with noise.samples(torch.zeros(1, dtype=torch.int64), seed=seed):
            drawn = noise.integers(torch.zeros(1), "tte", 0, 2 * self.pad, (crops, 2))[0].tolist()
        self.origins: list[tuple[int, int]] = [(top, left) for top, left in drawn]
        if legacy_bug:
            self.origins = self.origins[-1:] * crops
            self.artefact = "tte-legacy"

    def looks(self, x: Tensor) -> list[Tensor]:
        """Everything that is looked at, each [B, 3, H, W]; the image itself first."""
        looks = [x]
        if self.flip:
            looks.append(x.flip(-1))
        for origin in self.origins:
            cut = crop(x, origin, self.pad)
            looks += [cut, cut.flip(-1)] if self.flip_crops else [cut]
        if self.blur > 0:
            looks.append(blurred(x, self.blur).clamp(0.0, 1.0))
        return looks

    def encode_image(self, x: Tensor) -> Tensor:
        """Mean normalised embedding [B, D] of all looks."""
        units = [F.normalize(self.encoder.encode_image(look), dim=1) for look in self.looks(x)]
        return self.purify_latent(torch.stack(units).mean(dim=0))

    def cheaper(self) -> ImageEncoder | None:
        """One crop instead of all."""
        return variant(self, origins=self.origins[:1]) if len(self.origins) > 1 else None
