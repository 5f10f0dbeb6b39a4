"""What a prior is trained on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.perturb.losses import at_least_single

if TYPE_CHECKING:
    from modules.prior.diffusion import DiffusionPrior

LossKind = Literal["l2", "l1", "huber"]
_DISTANCES = {"l2": F.mse_loss, "l1": F.l1_loss, "huber": F.smooth_l1_loss}


def loss_per_sample(
    prior: DiffusionPrior,
    image_embedding: Tensor,
    text_embedding: Tensor,
    text_tokens: Tensor | None = None,
    *,
    stream: str = "prior",
) -> Tensor:
    """[B] distance between the network's answer and its target at a random step, with random drops of text and image.

    Args:
        prior: what is trained.
        image_embedding: [B, D], any length.
        text_embedding: [B, D], any length.
        text_tokens: [B, L, D] states of the text tokens.
        stream: of the noise.
    """
    schedule = prior.noise_scheduler
    x0 = prior.on_sphere(image_embedding)
    t = noise.integers(image_embedding, f"{stream}/t", 0, schedule.timesteps - 1)
    eps = noise.normal(image_embedding, f"{stream}/eps")
    x_t = schedule.add_noise(x0, t, eps)
    network = partial(
        prior.net,
        x_t,
        t,
        F.normalize(text_embedding, dim=-1),
        text_tokens,
        keep_text=noise.uniform(image_embedding, f"{stream}/text", ()) < 1 - prior.text_drop,
        keep_image=noise.uniform(image_embedding, f"{stream}/image", ()) < 1 - prior.image_drop,
    )
    estimate = None
    if prior.net.self_cond:  # half of the samples read what the network said without one (arXiv:2208.04202)
        with torch.no_grad():
            estimate = prior.x0_of(network(), x_t, t)
        estimate = estimate * (noise.uniform(image_embedding, f"{stream}/self", ()) < 0.5)[:, None]
    answer = at_least_single(network(self_cond=estimate))  # half under autocast
    if prior.clamp:
        answer = prior.on_sphere(answer)
    targets = {"x0": x0, "eps": eps, "v": schedule.velocity(x0, t, eps)}
    return _DISTANCES[prior.loss](answer, targets[prior.prediction], reduction="none").mean(dim=-1)
