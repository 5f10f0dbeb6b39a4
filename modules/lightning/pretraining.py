"""Contrastive pretraining of the embedded tiny CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.lightning.optim import OptimizerSettings


def multi_positive_contrastive(image: Tensor, text: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """CLIP's symmetric loss (arXiv:2103.00020) where several texts may belong to an image; a scalar.

    Args:
        image: [B, D] normalised embeddings.
        text: [B, D] normalised embeddings.
        scale: factor on the cosines.
        same: [B, B] bool, text j says the same as image i's text; with ten class names most batches repeat some.
    """
    logits = scale * image @ text.T
    target = same.to(logits.dtype)
    rows = F.cross_entropy(logits, target / target.sum(dim=1, keepdim=True))
    columns = F.cross_entropy(logits.T, (target / target.sum(dim=0, keepdim=True)).T)
    return (rows + columns) / 2


class ContrastivePretraining(pl.LightningModule):
    """Trains a small CLIP from scratch on captioned images.

    Args:
        model: open_clip's model.
        tokenizer: strings -> token ids [N, L].
        classes: class names.
        templates: with one ``{}`` each; every look at a picture draws one.
        mean: pixel mean.
        std: pixel standard deviation.
        settings: of the optimizer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        classes: Sequence[str],
        templates: Sequence[str],
        /,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        settings: OptimizerSettings,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.classes, self.templates = list(classes), list(templates)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The contrastive loss of a batch with attributes x, y and key."""
        with noise.samples(noise.keys_of(batch.key), draw=self.global_step):
            chosen = noise.integers(batch.x, "caption", 0, len(self.templates) - 1)
        captions = [
            self.templates[int(template)].format(self.classes[int(y)])
            for template, y in zip(chosen, batch.y, strict=True)
        ]
        ids = self.tokenizer(captions).to(self.device)
        image = self.model.encode_image((batch.x - self.mean) / self.std, normalize=True)
        text = self.model.encode_text(ids, normalize=True)
        same = (ids[:, None] == ids[None]).all(dim=-1) | (batch.y[:, None] == batch.y[None])
        loss = multi_positive_contrastive(image, text, self.model.logit_scale.exp().clamp(max=100), same)
        self.log("train/loss", loss, batch_size=len(batch.x))
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine."""
        return self.settings.build([(n, p) for n, p in self.model.named_parameters() if p.requires_grad])
