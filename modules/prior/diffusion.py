"""The diffusion prior: how likely an image embedding is given a text, and samples of them."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.choices import check_choice
from modules.prior.likelihood import log_likelihood
from modules.prior.loss import LossKind, loss_per_sample
from modules.prior.network import PriorNetwork
from modules.prior.sampling import nearest, sampler
from modules.prior.schedule import NoiseSchedule
from modules.prior.transformer import TextPrefix

Prediction = Literal["x0", "eps", "v"]


class DiffusionPrior(nn.Module):
    """Diffusion over one CLIP encoder's image embeddings given text (arXiv:2204.06125, sec. 2.2).

    Embeddings are unit vectors outside and sqrt(D) times that inside, where Gaussian noise fits
    them.  Against DALLE2-pytorch: inputs are normalised here and the caller's tensors are never
    written to; noise belongs to the sample (``modules.noise``), so a batch and its samples one by
    one agree; a self-conditioned network reads an earlier estimate of x_0, whatever it predicts.

    Args:
        network: predicts from the noisy embedding.
        schedule: of the noise.
        prediction: what the network's answer means.
        loss: distance between answer and target.
        text_drop: share of training samples that lose the text.
        image_drop: share that lose the noisy image embedding.
        clamp: project every x0 prediction onto the sphere of the embeddings.
    """

    def __init__(
        self,
        network: PriorNetwork,
        schedule: NoiseSchedule,
        /,
        *,
        prediction: Prediction = "x0",
        loss: LossKind = "l2",
        text_drop: float = 0.1,
        image_drop: float = 0.1,
        clamp: bool = False,
    ) -> None:
        check_choice("prediction", prediction, Prediction)
        check_choice("loss", loss, LossKind)
        super().__init__()
        for name, rate in (("text_drop", text_drop), ("image_drop", image_drop)):
            if not 0 <= rate <= 1:
                raise ValueError(f"{name}={rate}: must be in [0, 1]")
        if clamp and prediction != "x0":
            raise ValueError(f"clamp=True needs prediction 'x0', not {prediction!r}")
        if network.num_timesteps not in (None, schedule.timesteps):
            raise ValueError(
                f"the network knows {network.num_timesteps} steps but the schedule has "
                f"{schedule.timesteps}; make num_timesteps and timesteps equal"
            )
        self.net = network
        self.noise_scheduler = schedule
        self.prediction: Prediction = prediction
        self.loss: LossKind = loss
        self.text_drop, self.image_drop, self.clamp = text_drop, image_drop, clamp
        self.embedding_dim = network.dim
        self.scale = network.dim**0.5

    def config(self) -> dict[str, Any]:
        """Plain values from which ``from_config`` builds an equal, untrained prior."""
        schedule = self.noise_scheduler
        return {
            "network": self.net.config(),
            "schedule": {"timesteps": schedule.timesteps, "kind": schedule.kind},
            "prediction": self.prediction,
            "loss": self.loss,
            "text_drop": self.text_drop,
            "image_drop": self.image_drop,
            "clamp": self.clamp,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """An untrained prior from the values of ``config``.

        Raises:
            ValueError: a key is missing, unknown, or its value is out of range.
        """
        try:
            rest = {k: v for k, v in config.items() if k not in ("network", "schedule")}
            return cls(PriorNetwork(**config["network"]), NoiseSchedule(**config["schedule"]), **rest)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the configuration of a prior: {error}") from error

    def loss_per_sample(
        self,
        image_embedding: Tensor,
        text_embedding: Tensor,
        text_tokens: Tensor | None = None,
        *,
        stream: str = "prior",
    ) -> Tensor:
        """[B] training loss; see ``modules.prior.loss.loss_per_sample``."""
        return loss_per_sample(self, image_embedding, text_embedding, text_tokens, stream=stream)

    def text_prefix(self, text_embedding: Tensor | None, text_tokens: Tensor | None = None) -> TextPrefix:
        """The text as the network has read it, to hand to ``denoise`` again and again.

        Args:
            text_embedding: [B, D], or [1, D] for one text for all images; None for no text.
            text_tokens: [B, L, D] or [1, L, D] states of the text tokens.
        """
        text = None if text_embedding is None else F.normalize(text_embedding, dim=-1)
        return self.net.text_prefix(text, text_tokens)

    def denoise(
        self,
        x_t: Tensor,
        t: Tensor,
        text_embedding: Tensor | None,
        text_tokens: Tensor | None = None,
        *,
        guidance: float = 1.0,
        prefix: TextPrefix | None = None,
        null_prefix: TextPrefix | None = None,
        estimate: Tensor | None = None,
    ) -> Tensor:
        """[B, D] predicted x_0, whatever the network predicts.

        Args:
            x_t: [B, D] noisy embedding, times ``scale``.
            t: [B] step.
            text_embedding: [B, D], any length; None for no text.
            text_tokens: [B, L, D] states of the text tokens.
            guidance: 1 as trained; above, away from the answer without text and image.
            prefix: of ``text_prefix``, instead of the text.
            null_prefix: of ``text_prefix(None)``, which guidance needs at every step.
            estimate: [B, D] earlier x_0, for a self-conditioned network.
        """
        text = None if text_embedding is None else F.normalize(text_embedding, dim=-1)
        answer = self.net(x_t, t, text, text_tokens, self_cond=estimate, prefix=prefix)
        if guidance != 1:
            nothing = torch.zeros_like(t, dtype=torch.bool)
            null = self.net(x_t, t, None, keep_image=nothing, self_cond=estimate, prefix=null_prefix)
            answer = null + (answer - null) * guidance
        return self.x0_of(answer, x_t, t)

    def x0_of(self, answer: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """[B, D] x_0 that the network's answer [B, D] to x_t [B, D] at t [B] stands for."""
        if self.prediction == "eps":
            return self.noise_scheduler.x0_from_eps(x_t, t, answer)
        if self.prediction == "v":
            return self.noise_scheduler.x0_from_velocity(x_t, t, answer)
        return self.on_sphere(answer) if self.clamp else answer

    def denoising_error(
        self,
        z_unit: Tensor,
        t: Tensor,
        eps: Tensor,
        text_embedding: Tensor | None,
        text_tokens: Tensor | None = None,
        *,
        prefix: TextPrefix | None = None,
    ) -> Tensor:
        """[B] mean over D of (x0_hat - x_0)^2, a surrogate of -log p(z | text), smooth in z.

        Args:
            z_unit: [B, D] unit image embeddings.
            t: [B] step.
            eps: [B, D] standard normal.
            text_embedding: [B, D], any length; None for no text.
            text_tokens: [B, L, D] states of the text tokens.
            prefix: of ``text_prefix``, instead of the text.
        """
        x0 = self.scale * z_unit
        x_t = self.noise_scheduler.add_noise(x0, t, eps)
        x0_hat = self.denoise(x_t, t, text_embedding, text_tokens, prefix=prefix)
        return (x0_hat - x0).square().mean(dim=-1)

    def log_likelihood(
        self,
        z_unit: Tensor,
        text_embedding: Tensor | None = None,
        text_tokens: Tensor | None = None,
        *,
        prefix: TextPrefix | None = None,
        draws: int = 8,
        t_min: float = 0.0,
        t_max: float = 1.0,
        stream: str = "prior/likelihood",
    ) -> Tensor:
        """[B] surrogate of log p(z | text); see ``modules.prior.likelihood.log_likelihood``."""
        if prefix is None:
            prefix = self.text_prefix(text_embedding, text_tokens)
        return log_likelihood(self, z_unit, prefix, draws=draws, t_min=t_min, t_max=t_max, stream=stream)

    @torch.no_grad()
    def sample(
        self,
        text_embedding: Tensor,
        text_tokens: Tensor | None = None,
        *,
        steps: int,
        eta: float = 1.0,
        guidance: float = 1.0,
        best_of: int = 2,
        stream: str = "prior/sample",
        legacy_levels: bool = False,
    ) -> Tensor:
        """[B, D] unit image embeddings drawn for the texts.

        Args:
            text_embedding: [B, D], any length.
            text_tokens: [B, L, D] states of the text tokens.
            steps: T for DDPM; fewer for DDIM.
            eta: of DDIM, 0 (deterministic given its start) to 1.
            guidance: as in ``denoise``.
            best_of: candidates per text; the one nearest to the text is kept.
            stream: of the noise.
            legacy_levels: DDIM with DALLE2-pytorch's levels, one step off.
        """
        prefix = self.text_prefix(text_embedding, text_tokens)
        null_prefix = self.text_prefix(None) if guidance != 1 else None

        def denoise(x_t: Tensor, t: Tensor, estimate: Tensor | None) -> Tensor:
            given = {"prefix": prefix, "null_prefix": null_prefix, "estimate": estimate}
            return self.denoise(x_t, t, None, guidance=guidance, **given)

        draw = sampler(
            denoise,
            self.noise_scheduler,
            steps=steps,
            eta=eta,
            legacy_levels=legacy_levels,
        )
        x0 = nearest(draw, text_embedding, count=best_of, stream=stream)
        return F.normalize(x0, dim=-1)

    def on_sphere(self, x0: Tensor) -> Tensor:
        """[B, D] as long as embeddings are inside."""
        return self.scale * F.normalize(x0, dim=-1)
