"""Trains a diffusion prior on embeddings, with a moving average of its weights."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.lightning.optim import OptimizerSettings
from modules.prior.diffusion import DiffusionPrior


class EmbeddedPairs(Protocol):
    """Image and text embeddings of one encoder: what the prior is trained on."""

    @property
    def image(self) -> Tensor:
        """[B, D] image embeddings."""
        ...

    @property
    def text(self) -> Tensor:
        """[B, D] text embeddings."""
        ...

    @property
    def tokens(self) -> Tensor | None:
        """[B, L, D] states of the text tokens, zero after the end of the text."""
        ...

    @property
    def key(self) -> tuple[str, ...]:
        """B names of the samples."""
        ...


class PriorTraining(pl.LightningModule):
    """The prior's loss, its moving average, and the health of what it predicts.

    Everything under ``val/`` is measured on the moving average, the weights that are kept.

    Args:
        prior: what to train.
        settings: optimiser and schedule.
        ema_beta: weight of the old average at an update.
        ema_every: optimiser steps between updates.
        ema_after: up to this step the average is a plain copy.
        sample_steps: of the samples drawn at validation; at most the prior's own number is used.
        seed: of steps, noise and drops.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        /,
        *,
        settings: OptimizerSettings,
        ema_beta: float = 0.9999,
        ema_every: int = 10,
        ema_after: int = 100,
        sample_steps: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= ema_beta < 1:
            raise ValueError(f"ema_beta={ema_beta}: must be in [0, 1)")
        if ema_every < 1 or ema_after < 0:
            raise ValueError(f"ema_every={ema_every}, ema_after={ema_after}: must be at least 1 and 0")
        self.prior = prior.train()
        self.ema_prior = copy.deepcopy(prior).requires_grad_(False)
        self.settings = settings
        self.ema_beta, self.ema_every, self.ema_after = ema_beta, ema_every, ema_after
        self.sample_steps = min(sample_steps, prior.noise_scheduler.timesteps)
        self.seed = seed

    def configure_optimizers(self) -> Any:
        """AdamW on the prior, and the schedule."""
        return self.settings.build(self.prior.named_parameters())

    def training_step(self, batch: EmbeddedPairs, batch_idx: int) -> Tensor:
        """Mean loss of the batch, at steps and noise that belong to each sample."""
        with noise.samples(noise.keys_of(batch.key), seed=self.seed, draw=self.global_step):
            losses = self.prior.loss_per_sample(batch.image, batch.text, batch.tokens)
        loss = losses.mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(losses))
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the optimiser, then update the average where that is due.

        Not in ``on_train_batch_end``: checkpoint callbacks come first there, and a resumed run
        would miss the update.
        """
        super().optimizer_step(*args, **kwargs)
        step = self.global_step + 1  # Lightning counts the step only after this hook
        if step % self.ema_every == 0:
            self._average(0.0 if step <= self.ema_after else self.ema_beta)

    @torch.no_grad()
    def _average(self, beta: float) -> None:
        pairs = zip(self.ema_prior.parameters(), self.prior.parameters(), strict=True)
        for average, current in pairs:
            if current.requires_grad:
                average.lerp_(current, 1 - beta)

    @torch.no_grad()
    def validation_step(self, batch: EmbeddedPairs, batch_idx: int) -> None:
        """Log the loss, and how near samples come to their image, their text and another text.

        Healthy: image 0.75 or more, text near the baseline, unrelated below 0.1.
        """
        with noise.samples(noise.keys_of(batch.key), seed=self.seed):
            losses = self.ema_prior.loss_per_sample(batch.image, batch.text, batch.tokens, stream="val")
            predicted = self.ema_prior.sample(batch.text, batch.tokens, steps=self.sample_steps, stream="val/sample")
        values = {
            "val/loss": losses,
            "val/similarity_image": F.cosine_similarity(predicted, batch.image, dim=-1),
            "val/similarity_text": F.cosine_similarity(predicted, batch.text, dim=-1),
            "val/baseline": F.cosine_similarity(batch.image, batch.text, dim=-1),
        }
        if len(losses) > 1:  # a single sample has no unrelated text
            unrelated = batch.text.roll(1, dims=0)
            values["val/similarity_unrelated"] = F.cosine_similarity(predicted, unrelated, dim=-1)
        self.log_dict(
            {name: value.mean() for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            batch_size=len(losses),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the checkpoint is, in plain values that a restricted unpickler reads."""
        checkpoint["robustclip"] = {"kind": "prior", "config": self.prior.config()}
