"""Whose embeddings a prior knows: it is worth nothing, and may mislead, on another encoder's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from configs.files import ConfigError
from eval.tasks.base import Task
from modules import noise
from modules.encoders.base import ImageEncoder, frozen
from modules.prior.diffusion import DiffusionPrior
from modules.prior.likelihood import reference_likelihood
from modules.prior.storage import prior_metadata

PROBES = 64  # images on which the likelihood is compared


@dataclass(frozen=True)
class PriorOrigin:
    """What a prior's file says of the encoder that it belongs to.

    Attributes:
        path: the file.
        encoder: fingerprint of the encoder; None where the file does not know.
        likelihood: ``mean`` and ``std`` of log p(z) on that encoder's embeddings; empty where it is not known.
    """

    path: str
    encoder: str | None
    likelihood: dict[str, float]

    @classmethod
    def of(cls, path: Path) -> PriorOrigin:
        """The origin of a file.

        Raises:
            ValueError: no file, or not a prior.
        """
        said = prior_metadata(path)
        return cls(str(path), said.get("encoder"), dict(said.get("likelihood") or {}))


class Priored(Protocol):
    """What is needed of a plan."""

    @property
    def config(self) -> Any:
        """With ``allow_mismatch`` and ``model``."""
        ...

    @property
    def prior(self) -> DiffusionPrior | None:
        """The prior that defences of the plan use."""
        ...

    @property
    def origin(self) -> PriorOrigin | None:
        """Where it comes from; None where it was handed in and not read."""
        ...


def qualifier(encoder: ImageEncoder, plan: Priored, task: Task, fingerprint: str) -> str:
    """What every row behind the plan's prior must be read with; empty where the prior belongs to the encoder.

    Args:
        encoder: that is judged.
        plan: with the prior.
        task: on whose images the likelihood is compared.
        fingerprint: of the encoder.

    Raises:
        ConfigError: the prior belongs to another encoder and the plan does not allow it; with the measured gap and
            the command that adapts the prior.
    """
    origin, prior = plan.origin, plan.prior
    if origin is None or prior is None or origin.encoder == fingerprint:
        return ""
    whose = f"encoder {origin.encoder}" if origin.encoder else "an unknown encoder"
    gap = _gap(origin, _measured(encoder, prior, task))
    if not plan.config.allow_mismatch:
        raise ConfigError(
            f"{origin.path} belongs to {whose}, not to this one ({fingerprint}), {gap}; adapt it: "
            f"{adapting(plan.config.model, origin.path)}; or say --allow-mismatch"
        )
    return f"prior of {whose}, {gap}"


def adapting(model: Any, prior: str) -> str:
    """The commands that adapt a prior to a model's embeddings."""
    embed = "robustclip embed tiny" if model.name == "tiny" else f"robustclip embed laion model.name={model.name}"
    if model.name != "tiny" and model.pretrained:
        embed += f" model.pretrained={model.pretrained}"
    if model.checkpoint:
        embed += f" model.checkpoint={model.checkpoint}"
    recipe = "prior_tiny_adapt" if model.name == "tiny" else "prior_vit_l14_adapt"
    return f"{embed} --out embeddings && robustclip prior {recipe} init={prior} data.shards=embeddings"


@torch.no_grad()
def _measured(encoder: ImageEncoder, prior: DiffusionPrior, task: Task) -> dict[str, float]:
    batch = next(task.whole_batches(PROBES)).to(next(encoder.parameters()).device)
    with frozen(encoder), noise.samples(noise.keys_of(batch.key, device=batch.x.device)):
        z = F.normalize(encoder.encode_image(batch.x[:, :3]).float(), dim=1)
        return reference_likelihood(prior, z, batch=len(z))


def _gap(origin: PriorOrigin, found: dict[str, float]) -> str:
    """In words, how much less likely the prior finds this encoder's images than its own."""
    own = origin.likelihood
    if not found:
        return "whose likelihood it cannot say, as it never learnt to do without a text"
    if not {"mean", "std"} <= own.keys():
        return f"log-likelihood {found['mean']:.3f} here; the file does not say its own"
    gap = (own["mean"] - found["mean"]) / max(own["std"], 1e-12)
    side = "less" if gap >= 0 else "more"
    return (
        f"which it finds {abs(gap):.1f} standard deviations {side} likely than its own "
        f"(log-likelihood {found['mean']:.3f} against {own['mean']:.3f})"
    )
