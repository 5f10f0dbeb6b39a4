"""What races in ``train-step``: our fine-tuning in Lightning's Trainer, and the reference recipe written plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.batches import ImageBatch
from launch.bench.models import as_made, random_encoder
from launch.bench.race import peak_bytes, race
from modules import noise
from modules.counting import flops_of
from modules.perturb.threat import Threat
from train.stepping import steps_of

EPS, STEP_SIZE, STEPS = 4 / 255, 1 / 255, 10
LR, WEIGHT_DECAY, WARMUP, LENGTH = 1e-5, 1e-4, 1400, 20_000


class _Step:
    """A model, a batch and what both recipes share."""

    def __init__(self, *, architecture: str, images: int, device: str, out: str) -> None:
        torch.manual_seed(0)
        self.device, self.out = torch.device(device), Path(out)
        self.encoder, self.original = random_encoder(architecture), random_encoder(architecture)
        self.original.load_state_dict(self.encoder.state_dict())
        self.encoder.train().requires_grad_(True)
        self.original.freeze()
        self.start = {name: value.clone() for name, value in self.encoder.state_dict().items()}
        size = self.encoder.image_size
        generator = torch.Generator().manual_seed(1)
        x = torch.rand(images, 3, size, size, generator=generator)
        self.batch = ImageBatch(x, torch.zeros(images, dtype=torch.long), tuple(map(str, range(images))))
        self.done = 0

    def finding(self) -> dict[str, Any]:
        """Operations of a step, and how fast this machine multiplies; the weights go to a file."""
        torch.save({"start": self.start, "end": {k: v.cpu() for k, v in self.encoder.state_dict().items()}}, self.out)
        held = sum(v.numel() * v.element_size() for v in self.start.values())
        return {
            "flops": flops_of(self.counted),
            "gemm": _gemm_rate(self.device),
            "peak": peak_bytes(self.counted, self.device),
            "held": 5 * held,  # weights, the original's, gradients, and two averages
        }

    def step(self) -> None:
        """One step of the optimizer."""
        raise NotImplementedError

    def counted(self) -> None:
        """A step in this very thread, where products of matrices are counted."""
        self.step()


class Ours(_Step):
    """Steps of Lightning's Trainer on our module, one at a time."""

    def __init__(self, *, precision: str = "32-true", **settings: Any) -> None:
        super().__init__(**settings)
        from modules.attacks.pgd import PGD
        from modules.lightning.finetuning import AdversarialFineTuning
        from modules.lightning.optim import OptimizerSettings
        from modules.objectives.fare import FARE

        attack = PGD(Threat("linf", EPS), steps=STEPS, step_size=STEP_SIZE, keep="last")
        optimizer = OptimizerSettings(lr=LR, weight_decay=WEIGHT_DECAY, warmup_steps=WARMUP, max_steps=LENGTH)
        module = AdversarialFineTuning(self.encoder, self.original, FARE(), attack, settings=optimizer)
        self._module, self._steps = module, steps_of(module, self.batch, precision=precision, device=self.device)

    def step(self) -> None:
        """The Trainer's next step."""
        next(self._steps)

    def counted(self) -> None:
        """What the Trainer has computed of a step, without it."""
        module, batch = self._module, ImageBatch(self.batch.x.to(self.device).clone(), self.batch.y, self.batch.key)
        x_adv = module.perturb(batch, 0)
        module.objective.outer(module.student, module.reference, batch, x_adv).mean().backward()


class Reference(_Step):
    """The recipe as it is published, written plainly: what FARE's authors ran, one process, single precision."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for part in (self.encoder, self.original):
            part.to(self.device)
        self.x = self.batch.x.to(self.device)
        self.optimizer = torch.optim.AdamW(self.encoder.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
        self.threat = Threat("linf", EPS)
        for part in (self.encoder, self.original):
            as_made(part)

    def step(self) -> None:
        """Target, clean pass, attack, outer step."""
        from modules.lightning.optim import warmup_cosine

        for group in self.optimizer.param_groups:
            group["lr"] = LR * warmup_cosine(self.done, warmup_steps=WARMUP, max_steps=LENGTH)
        with torch.no_grad():
            target = self.original.encode_image(self.x)
        self.encoder.eval()
        x_adv = self._attack(target)
        self.encoder.train()
        clean = self.encoder.encode_image(self.x)  # logged, and for a clean loss that weighs nothing
        loss = ((self.encoder.encode_image(x_adv) - target) ** 2).sum(dim=1).mean()
        clean_loss = ((clean - target) ** 2).sum(dim=1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.told = float(loss), float(clean_loss)  # as its log does, in every step
        self.done += 1

    def _attack(self, target: Tensor) -> Tensor:
        with noise.samples(noise.keys_of(self.batch.key, device=self.device), seed=0, draw=self.done):
            delta = self.threat.sample(self.x, "inner")
        delta = ((self.x + delta).clamp(0, 1) - self.x).detach()
        for _ in range(STEPS):
            delta.requires_grad_()
            loss = ((self.encoder.encode_image(self.x + delta) - target) ** 2).sum(dim=1).sum()
            (gradient,) = torch.autograd.grad(loss, delta)
            with torch.no_grad():
                delta = (delta + STEP_SIZE * gradient.sign()).clamp(-EPS, EPS)
                delta = (self.x + delta).clamp(0, 1) - self.x
                assert not bool(delta.isnan().any()) and float(delta.abs().max()) <= EPS + 1e-6
        return (self.x + delta).detach()


def _gemm_rate(device: torch.device) -> float:
    """Floating-point operations a second of a large product of matrices in single precision."""
    n = 8192 if device.type == "cuda" else 1536
    a, b = torch.rand(2, n, n, device=device)
    timing = race({"product": lambda: a @ b}, rounds=5, quiet=True)["product"]
    return 2 * n**3 / timing.low
