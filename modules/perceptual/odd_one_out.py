"""Odd one out: which of three images is least like the others?"""

from __future__ import annotations

import torch
from torch import Tensor

from modules.perceptual.choice import Choice


class OddOneOut(Choice):
    """A classifier of triplets into first (0), second (1) and third (2), the one outside the most similar pair.

    The pixels it looks at are as in ``Choice``, whose reference, left and right are the first, second and third here.
    Of equally similar pairs the one without the first image counts, then the one without the second.
    """

    def answers(self, images: list[Tensor]) -> Tensor:
        """[B, 3] for each image the cosine of the other two, of the images' embeddings [B, D] of length 1."""
        first, second, third = images
        return torch.stack([(a * b).sum(-1) for a, b in ((second, third), (first, third), (first, second))], dim=1)
