"""Fine-tuning of what an encoder finds alike, on triplets that people have judged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from modules import noise
from modules.attacks.base import Attack
from modules.choices import check_choice
from modules.encoders.base import ImageEncoder, frozen
from modules.lightning.optim import OptimizerSettings
from modules.lightning.watch import Climb, StepWatch
from modules.perceptual.choice import Choice, Target


def hinge(cosines: Tensor, y: Tensor, margin: float) -> Tensor:
    """[B] max(0, margin - (d_far - d_near)) of cosines [B, 2] to left and right and the nearer one y [B]."""
    return (margin - advantage(cosines, y)).clamp_min(0)


def advantage(cosines: Tensor, y: Tensor) -> Tensor:
    """[B] how much nearer the nearer one y [B] is, of cosines [B, 2]: what an attacker makes small."""
    return (cosines.gather(1, y[:, None]) - cosines.gather(1, 1 - y[:, None])).squeeze(1)


class PerceptualTraining(pl.LightningModule):
    """Trains a head or LoRA on two-alternative forced choices (NIGHTS; DreamSim's hinge, arXiv:2306.09344).

    With an attack the triplets are perturbed first, which nobody has published: the loss is then that of the worst
    triplet found.  The attack ascends the margin itself, whose slope does not end where the hinge's does.

    What is random, starts of attacks and dropout, is drawn per triplet and step.  Checkpoints hold what is trained; the
    rest is the encoder that a run starts from, which is compared when the run goes on.

    Args:
        encoder: what of it wants a gradient now is trained; the rest stays in evaluation mode.
        attack: perturbs the triplets before every step; None trains on clean ones, as published.
        settings: of the optimizer and its schedule.
        margin: of the hinge.
        target: what the attack may change.
        seed: of the attack's starts.
        identity: plain values that say what the weights are; saved with them.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        attack: Attack | None,
        /,
        *,
        settings: OptimizerSettings,
        margin: float = 0.05,
        target: Target = "reference",
        seed: int = 0,
        identity: dict[str, Any] | None = None,
    ) -> None:
        check_choice("target", target, Target)
        super().__init__()
        self.encoder, self.attack, self.settings = encoder, attack, settings
        self.margin, self.seed, self.identity = margin, seed, identity or {}
        self.target: Target = target
        self.watch = StepWatch()
        self.strict_loading = False  # what checkpoints leave out is there already
        self._trained = frozenset(name for name, parameter in self.named_parameters() if parameter.requires_grad)
        self._losses: list[Tensor] = []

    def perturb(self, triplets: Tensor, y: Tensor, key: tuple[str, ...], step: int) -> Tensor:
        """Triplets [B, 3, 3, H, W] whose changed pictures lie in the threat; a function of weights and arguments."""
        assert self.attack is not None
        choice = Choice(self.encoder, triplets, target=self.target)

        def loss(x: Tensor) -> Tensor:
            return -advantage(choice(x), y)

        with self._named(key, triplets, step), frozen(self.encoder):
            climb = Climb(loss)
            x_adv = self.attack.perturb(climb if self.watch.wanted else loss, choice.pixels, "inner")
            if self.watch.wanted:
                highest = getattr(self.attack, "keep", "last") == "best"
                self.watch.note("train/attack_gain", climb.gain(x_adv, highest=highest))
        return choice.with_pixels(x_adv)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The mean hinge, at the perturbed triplets where there is an attack."""
        step, triplets = self.global_step, torch.cat([batch.x[:, None], batch.beside], dim=1)
        if self.attack is not None:
            triplets = self.perturb(triplets, batch.y, batch.key, step)
        whole = Choice(self.encoder, triplets, target="all")
        with self._named(batch.key, triplets, step):
            cosines = whole(whole.pixels)
        self.watch.note("train/accuracy", cosines.argmax(1) == batch.y)
        loss = hinge(cosines, batch.y, self.margin).mean()
        self._log_loss(loss.detach(), batch_idx)
        return loss

    def _named(self, key: tuple[str, ...], triplets: Tensor, step: int) -> AbstractContextManager[None]:
        return noise.samples(noise.keys_of(key, device=triplets.device), seed=self.seed, draw=step)

    def _log_loss(self, loss: Tensor, batch_idx: int) -> None:
        """Log the mean over a step's batches and over the processes, once a step."""
        if self._trainer is None:
            return  # a step by itself
        micro = self._trainer.accumulate_grad_batches
        self._losses = [*(self._losses if batch_idx % micro else []), loss]
        if len(self._losses) == micro:
            self.log("train/loss", torch.stack(self._losses).mean(), sync_dist=True, batch_size=1)

    def train(self, mode: bool = True) -> PerceptualTraining:
        """Itself; only modules that are trained leave evaluation mode, for their dropout."""
        super().train(False)
        self.training = mode
        for module in self.encoder.modules():
            if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
                module.train(mode)
        return self

    def configure_optimizers(self) -> Any:
        """Adam (AdamW, where the recipe's weight decay is 0) over what is trained."""
        return self.settings.build(list(self.encoder.named_parameters()))

    def state_dict(self, *args: Any, **settings: Any) -> dict[str, Any]:
        """What is trained, and nothing else."""
        whole = super().state_dict(*args, **settings)
        return {name: value for name, value in whole.items() if name in self._trained}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint what the weights are."""
        checkpoint["robustclip"] = {"kind": "perceptual", **self.identity}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with what was trained, on the same encoder as before.

        Raises:
            ValueError: it was trained on another one, or is something else.
        """
        before, here = (one.get("started_from") for one in (checkpoint.get("robustclip", {}), self.identity))
        if before != here:
            raise ValueError(f"this training began on the encoder {before}, and model now names {here}; name that one")
        if checkpoint["state_dict"].keys() != self._trained:
            raise ValueError("the checkpoint does not hold what this recipe trains; start a new run")
