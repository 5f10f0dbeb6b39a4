"""Trains a diffusion prior on pairs of embeddings, with a moving average of its weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from modules import noise
from modules.lightning.optim import OptimizerSettings
from modules.lightning.sharding import is_sharded, local, shard, whole_state
from modules.lightning.tally import Tally
from modules.prior.diffusion import DiffusionPrior
from modules.prior.health import health, measures, validation_loss
from modules.prior.pair_encoder import PairEncoder
from modules.prior.pairs import Pairs

LIVE_LOSS = "loss_live"


@dataclass(frozen=True)
class EMASettings:
    """The moving average of the weights.

    Args:
        beta: weight of the old average at an update.
        every: optimizer steps between updates.
        after: up to this step the average is a plain copy.

    Raises:
        ValueError: a value is out of range.
    """

    beta: float = 0.9999
    every: int = 10
    after: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta={self.beta}: must be in [0, 1)")
        if self.every < 1 or self.after < 0:
            raise ValueError(f"every={self.every}, after={self.after}: must be at least 1 and 0")

    def weight(self, step: int) -> float | None:
        """Weight of the old average after ``step`` steps; None where no update is due."""
        if step % self.every:
            return None
        return 0.0 if step <= self.after else self.beta


class PriorTraining(pl.LightningModule):
    """The prior's loss, its moving average, and the health of what that predicts.

    Everything under ``val/`` but ``val/loss_live`` is measured on the moving average, the weights that are kept.

    Args:
        prior: what to train.
        pairs: makes pairs of a batch; takes stored ones as they are where None.
        settings: optimiser and schedule.
        ema: of the moving average.
        sample_steps: of the embeddings drawn at validation; at most the prior's own number is used.
        bins: parts of the timesteps whose denoising loss is measured.
        seed: of steps, noise, drops and dropout.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        pairs: PairEncoder | None = None,
        /,
        *,
        settings: OptimizerSettings,
        ema: EMASettings | None = None,
        sample_steps: int = 64,
        bins: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.prior = prior.train()
        self.ema_prior = copy.deepcopy(prior).requires_grad_(False)
        self.pairs = pairs or PairEncoder(dim=prior.embedding_dim)
        self.settings, self.ema, self.seed = settings, ema or EMASettings(), seed
        self.sample_steps, self.bins = min(sample_steps, prior.noise_scheduler.timesteps), bins
        self.ends_at_broken_losses = True  # a trainer that leaves broken steps out, on all processes, says False
        self._losses: list[Tensor] = []
        self._tally = Tally([])
        self._judged = (self.ema_prior, self.prior)

    def configure_model(self) -> None:
        """Cut the weights and their average up alike where the strategy says so; called at every fit."""
        if self.device_mesh is not None:
            for prior in (self.prior, self.ema_prior):
                shard(prior.net, self.device_mesh["data_parallel"])

    def make_whole(self) -> None:
        """Put weights that are cut up together again, once training is over; every process must ask."""
        self.prior, self.ema_prior = _whole(self.prior), _whole(self.ema_prior)

    def configure_optimizers(self) -> Any:
        """AdamW on the prior, and the schedule."""
        return self.settings.build(self.prior.named_parameters())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Mean loss of the batch, at timesteps and noise that belong to each sample and its place in the stream.

        Raises:
            ValueError: the batch cannot be trained on, or its loss is not finite.
        """
        pairs = self.pairs.to(self.device)(batch)
        losses = self.loss_per_pair(pairs, self._position(batch_idx, len(pairs.key)))
        broken = ~losses.detach().isfinite()
        if self.ends_at_broken_losses and broken.any():
            worst = pairs.key[int(broken.int().argmax())]
            raise ValueError(
                f"the loss of {int(broken.sum())} of {len(losses)} samples, such as {worst!r}, is not finite at step "
                f"{self.global_step}; lower optimizer.lr, set trainer.clip, or use another trainer.precision"
            )
        self._log_loss(losses.mean(), batch_idx)
        return losses.mean()

    def loss_per_pair(self, pairs: Pairs, position: int) -> Tensor:
        """[B] losses of pairs whose first one stands at a place of the stream; a function of weights and arguments."""
        names = [f"{key}@{position + i}" for i, key in enumerate(pairs.key)]
        with noise.samples(noise.keys_of(names), seed=self.seed), self._dropout(position):
            return self.prior.loss_per_sample(pairs.image, pairs.text, pairs.tokens)

    def _accumulated(self) -> int:
        return 1 if self._trainer is None else self._trainer.accumulate_grad_batches

    def _position(self, batch_idx: int, size: int) -> int:
        """Place of the batch's first sample in the endless stream that all processes read.

        Noise hangs on it, so that neither accumulation nor the number of processes changes a sample's noise, and a
        sample that comes twice in a step meets two.
        """
        micro, trainer = self._accumulated(), self._trainer
        rank, world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        return ((self.global_step * micro + batch_idx % micro) * world + rank) * size

    @contextmanager
    def _dropout(self, position: int) -> Iterator[None]:
        """Dropout drawn from seed and position: a resumed run draws what an unbroken one would have drawn."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(noise.keys_of([f"dropout/{self.seed}/{position}"])))
            yield

    def _log_loss(self, loss: Tensor, batch_idx: int) -> None:
        """Log the mean over a step's batches and over the processes, once a step."""
        micro = self._accumulated()
        self._losses = [*(self._losses if batch_idx % micro else []), loss.detach()]
        if len(self._losses) == micro:
            self.log("train/loss", torch.stack(self._losses).mean(), sync_dist=True, batch_size=1)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the optimiser, then update the average where that is due.

        Not in ``on_train_batch_end``: checkpoint callbacks come first there, and a resumed run
        would miss the update.
        """
        super().optimizer_step(*args, **kwargs)
        batch_idx = kwargs.get("batch_idx", args[1] if len(args) > 1 else 0)
        if (batch_idx + 1) % self._accumulated():  # DeepSpeed is asked with every batch and steps with a step's last
            return
        beta = self.ema.weight(self.global_step + 1)  # Lightning counts the step only after this hook
        if beta is not None:
            self._average(beta)

    @torch.no_grad()
    def _average(self, beta: float) -> None:
        pairs = zip(self.ema_prior.parameters(), self.prior.parameters(), strict=True)
        for average, current in pairs:
            if current.requires_grad:
                local(average).lerp_(local(current), 1 - beta)

    def on_validation_epoch_start(self) -> None:
        """Start to count anew; every process must come, but may bring as many batches as it likes."""
        self._judged = (_whole(self.ema_prior), _whole(self.prior))
        self._tally = Tally([*measures(self.prior.noise_scheduler.timesteps, self.bins), LIVE_LOSS])

    @torch.no_grad()
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count the health of the average on a batch, and the loss of the weights in training."""
        pairs = self.pairs.to(self.device)(batch)
        average, current = self._judged
        with noise.samples(noise.keys_of(pairs.key), seed=self.seed):
            self._tally.add(health(average, pairs, sample_steps=self.sample_steps, bins=self.bins))
            self._tally.add({LIVE_LOSS: validation_loss(current, pairs)})

    def validated(self) -> dict[str, float]:
        """Means over all samples of all processes since ``on_validation_epoch_start``; every process must ask."""

        def add_up(sums: Tensor) -> Tensor:
            strategy = self.trainer.strategy
            return sums if self.trainer.world_size == 1 else strategy.reduce(sums.to(self.device), reduce_op="sum")

        return {f"val/{name}": value for name, value in self._tally.means(add_up).items()}

    def on_validation_epoch_end(self) -> None:
        """Log the means."""
        self.log_dict(self.validated())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the checkpoint is, in plain values that a restricted unpickler reads."""
        checkpoint["robustclip"] = {"kind": "prior", "config": self.prior.config()}


def _whole(prior: DiffusionPrior) -> DiffusionPrior:
    """The prior itself, or a copy with all weights where they are cut up; every process must ask."""
    if not is_sharded(prior):
        return prior
    state = whole_state(prior)
    with torch.random.fork_rng(devices=[]):
        copied = DiffusionPrior.from_config(prior.config())
    copied.load_state_dict(state)
    return copied.to(next(iter(state.values())).device).requires_grad_(False).train(prior.training)
