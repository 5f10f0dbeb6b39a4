"""Adversarial fine-tuning: the inner attack, the outer step, and nothing else."""

from __future__ import annotations

import copy
from typing import Any, Self

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import noise
from modules.attacks.base import Attack
from modules.attacks.pgd import PGD
from modules.encoders.base import FrozenReference, ImageEncoder, frozen
from modules.lightning.optim import OptimizerSettings
from modules.lightning.sharding import gathered, is_sharded, shard, whole_state
from modules.lightning.watch import Climb, StepWatch, embedding_of
from modules.objectives.base import Batch, Objective


class AdversarialFineTuning(pl.LightningModule):
    """Trains an image encoder on the perturbations an attack finds (FARE, TeCoA: arXiv:2402.12336, 2212.07016).

    The attack sees the encoder in evaluation mode with frozen weights; only the outer step keeps a graph for them.
    The start of the attack is drawn per sample and step, so that any step can be replayed alone.  No statistic couples
    the samples of a batch, so accumulated batches and shares of several processes add up to one large batch.

    Args:
        encoder: to train, all of it.
        reference: the original encoder; frozen, and not part of the checkpoint.
        objective: what the perturbation ascends and the weights descend.
        attack: finds the perturbation.
        settings: of the optimizer and its schedule.
        seed: of the attack's starts.
        identity: plain values that say what the weights are (base model, objective, threat); saved with them.
        student: computes the encoder's embeddings during training, such as a compiled one; the encoder itself if None.

    Raises:
        ValueError: the objective needs a random start and the attack has none.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        reference: ImageEncoder,
        objective: Objective,
        attack: Attack,
        /,
        *,
        settings: OptimizerSettings,
        seed: int = 0,
        identity: dict[str, Any] | None = None,
        student: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        if objective.needs_random_start and isinstance(attack, PGD) and not attack.random_start:
            raise ValueError(
                f"{type(objective).__name__}'s gradient is exactly zero at the clean image while the student "
                "equals the original; set attack.random_start=true"
            )
        self.encoder = encoder
        self._reference = (FrozenReference(reference),)  # in a tuple: no submodule, not in checkpoints
        self._student = (student or encoder,)  # the same weights, so neither
        self.objective, self.attack, self.settings = objective, attack, settings
        self.seed, self.identity = seed, identity or {}
        self.watch = StepWatch()
        self._losses: list[Tensor] = []
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; batch normalization (ResNets, MobileCLIP) keeps the original's statistics in either.

        With a batch's own statistics its samples would depend on each other, and the student would differ from the
        original before the first step.
        """
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    @property
    def reference(self) -> FrozenReference:
        """The frozen original encoder."""
        return self._reference[0]

    @property
    def student(self) -> ImageEncoder:
        """What computes the encoder's embeddings during training."""
        return self._student[0]

    def configure_model(self) -> None:
        """Cut the weights up where the strategy says so; called at every fit."""
        if self.device_mesh is not None:
            for tower in self.encoder.children():  # the encoder is not called, its tower is
                shard(tower, self.device_mesh["data_parallel"])

    def whole_encoder(self) -> ImageEncoder:
        """The encoder with all weights: itself, or a copy where they are cut up; every process must ask."""
        if not is_sharded(self.encoder):
            return self.encoder
        whole = copy.deepcopy(self.reference.encoder).to(self.device)
        whole.load_state_dict(whole_state(self.encoder))
        return whole

    def perturb(self, batch: Batch, step: int) -> Tensor:
        """The perturbed images [B, 3, H, W] of a batch at an optimizer step; a function of weights and arguments."""
        target = getattr(batch, "target", None)
        if target is not None:  # known beforehand: the original encoder need not be asked
            self.reference.remember(batch.x, target)
        keys = noise.keys_of(batch.key, device=batch.x.device)
        with noise.samples(keys, seed=self.seed, draw=step), gathered(self.encoder), frozen(self.encoder):
            loss = self.objective.inner(self.student, self.reference, batch)
            if not self.watch.wanted:
                return self.attack.perturb(loss, batch.x, "inner")
            climb = Climb(loss)
            x_adv = self.attack.perturb(climb, batch.x, "inner")
            highest = getattr(self.attack, "keep", "last") == "best"
            self.watch.note("train/attack_gain", climb.gain(x_adv, highest=highest))
            return x_adv

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean outer loss at the perturbed images."""
        x_adv = self.perturb(batch, self.global_step)
        loss = self._outer(batch, x_adv).mean()
        self._log_loss(loss.detach(), batch_idx)
        return loss

    def _outer(self, batch: Batch, x_adv: Tensor) -> Tensor:
        """The outer loss [B]; by the way, how near perturbed embeddings come to the original ones of clean images."""
        wanted = self.watch.wanted
        with (
            embedding_of(self.student, x_adv, wanted=wanted) as z,
            embedding_of(self.reference, batch.x, wanted=wanted) as z0,
        ):
            losses = self.objective.outer(self.student, self.reference, batch, x_adv)
        if z and z0:  # an objective may do without one of them
            self.watch.note("train/cosine", F.cosine_similarity(z[0].float(), z0[0].float()))
        return losses

    def _log_loss(self, loss: Tensor, batch_idx: int) -> None:
        """Log the mean over a step's batches and over the processes, once a step."""
        micro = 1 if self._trainer is None else self._trainer.accumulate_grad_batches
        self._losses = [*(self._losses if batch_idx % micro else []), loss]
        if len(self._losses) == micro:
            self.log("train/loss", torch.stack(self._losses).mean(), sync_dist=True, batch_size=1)

    @torch.no_grad()
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Cosine of the clean embeddings with the original ones."""
        with frozen(self.encoder):
            z, z0 = self.encoder.encode_image(batch.x), self.reference.encode_image(batch.x)
        self.log("val/cosine", F.cosine_similarity(z, z0).mean(), batch_size=len(batch.x), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW over every weight of the encoder, warm-up and cosine."""
        return self.settings.build(list(self.encoder.named_parameters()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint what the weights are."""
        checkpoint["robustclip"] = {"kind": "encoder", **self.identity}
