"""TTC on a fine-tuned encoder, as its paper has it: the original encoder works the gate."""

from __future__ import annotations

from torch import Tensor

from modules.defenses.gates import Direction
from modules.defenses.ttc import TTC
from modules.encoders.base import ImageEncoder
from modules.units import Pixels


class TTCOriginal(TTC):
    """TTC whose drift is measured by the encoder before fine-tuning, on the same noise.

    Counterattack and prediction stay with the fine-tuned encoder: fine-tuning calms the drift, and the published
    threshold is the original's.  Costs two more looks.

    Args:
        encoder: the encoder to defend.
        original: the encoder that it was fine-tuned from.
        eps: radius of the counterattack, linf, in [0, 1] pixels.
        step_size: of the counterattack, in [0, 1] pixels.
        steps: N; with none, this is random noise.
        tau: drifts on one side of it are counterattacked.
        direction: ``below`` counterattacks small drifts (the paper), ``above`` large ones.
        beta: weight of later iterates: exp(beta k), normalised.
        calibrate: set ``tau`` and ``direction`` on a tuning split before the evaluation.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        original: ImageEncoder,
        /,
        *,
        eps: Pixels = 4 / 255,
        step_size: Pixels = 1 / 255,
        steps: int = 2,
        tau: float = 0.2,
        direction: Direction = "below",
        beta: float = 2.0,
        calibrate: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            eps=eps,
            step_size=step_size,
            steps=steps,
            tau=tau,
            direction=direction,
            beta=beta,
            calibrate=calibrate,
        )
        self.original = original

    def probe(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The clean embedding [B, D], the noisy image [B, 3, H, W], and the original's drift tau [B] between them."""
        z0 = self.encoder.encode_image(x)
        if self.threat.eps == 0:
            return z0, x, x.new_zeros(len(x))
        noisy = (x + self.threat.sample(x, "ttc")).clamp(0.0, 1.0)
        before = self.original.encode_image(x)
        return z0, noisy, (self.original.encode_image(noisy) - before).norm(dim=1) / before.norm(dim=1)
